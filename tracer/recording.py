"""Recording a forward pass with kernels whose operators autograd shows one by one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradtrace.tracer.checkpointing import reentrant_written_out
from gradtrace.tracer.chunked import chunked_losses_whole
from gradtrace.tracer.fused import fused_written_out

OPAQUE = {
    "MkldnnRnnLayer": "nn.LSTM, nn.GRU and nn.RNN",
    "CudnnRnn": "nn.LSTM, nn.GRU and nn.RNN",
    "Miopen": "nn.LSTM, nn.GRU and nn.RNN",
    "ThnnFusedLstmCell": "nn.LSTM and nn.LSTMCell",
    "ThnnFusedGruCell": "nn.GRU and nn.GRUCell",
    "FusedRmsNorm": "nn.RMSNorm",
    "ScaledDotProductFlashAttentionForCpu": "scaled_dot_product_attention",
    "ScaledDotProductFlashAttention": "scaled_dot_product_attention",
    "ScaledDotProductEfficientAttention": "scaled_dot_product_attention",
    "ScaledDotProductCudnnAttention": "scaled_dot_product_attention",
}
"""Fused operators that hide what happens inside, and what records them."""


@contextmanager
def traceable_kernels() -> Iterator[None]:
    """Record recurrent modules and attention with decomposed kernels; what it changes is put back on leaving.

    Turns oneDNN and cuDNN off, picks the plain-math attention, and writes out what GPUs fuse (`fused`) and what checkpoints
    and chunked losses hide (`checkpointing`, `chunked`). Values differ from the fused kernels' by rounding only.
    """
    onednn, cudnn = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    # Not torch.backends.mkldnn.flags: it also sets a TF32 switch that warns on machines without Intel GPUs.
    torch._C._set_mkldnn_enabled(False)
    torch._C._set_cudnn_enabled(False)
    try:
        with (
            sdpa_kernel(SDPBackend.MATH),
            _compiled_parts_eager(),
            _fused_parts_plain(),
            reentrant_written_out(),
            chunked_losses_whole(),
        ):
            yield
    finally:
        torch._C._set_mkldnn_enabled(onednn)
        torch._C._set_cudnn_enabled(cudnn)


def _fused_parts_plain() -> AbstractContextManager[None]:
    """Write out the fused operators of a GPU; nothing to do where there is none."""
    return fused_written_out() if _has_accelerator() else nullcontext()


@lru_cache(maxsize=1)
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


def _compiled_parts_eager() -> AbstractContextManager[object]:
    """Run what `torch.compile` compiled as plain operators; nothing to do where the compiler was never loaded."""
    return _eager() if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _eager() -> Iterator[None]:
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        # Our module hooks are global ones; with the compiler out of the way the caution about them does not apply.
        warnings.filterwarnings("ignore", message=".*global hooks on modules")
        yield
