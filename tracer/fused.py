"""Fused operators that PyTorch picks on a GPU alone, written out in the operators that it records on the CPU.

With cuDNN off, `nn.LSTM`, `nn.GRU` and their cells on a GPU make each time step one operator, and `nn.RMSNorm` all of it: gates,
carry and cell would be one vertex. While a step is recorded, the kernels here stand in for them, at the dispatch keys of the
GPUs' autograd. The formulas are those of PyTorch's own CPU path (aten/src/ATen/native/RNN.cpp, `LSTMCell` and `GRUCell`;
layer_norm.cpp, `rms_norm`), so that a model has the same graph on every device; values differ by rounding only.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

KEYS = ("AutogradCUDA", "AutogradXPU", "AutogradPrivateUse1")
"""Dispatch keys of the devices on which PyTorch fuses."""


@contextmanager
def fused_written_out() -> Iterator[None]:
    """Let the fused operators of GPUs record what they are made of; PyTorch's own kernels are back on leaving."""
    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Overriding a previously registered kernel")
            for key in KEYS:
                for name, kernel in _KERNELS.items():
                    library.impl(name, kernel, key)
        yield
    finally:
        library._destroy()


def lstm_cell(
    input_gates: Tensor, hidden_gates: Tensor, cx: Tensor, input_bias: Tensor | None, hidden_bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """`aten::_thnn_fused_lstm_cell` in plain operators.

    Args:
        input_gates, hidden_gates: [batch, 4 · hidden], the products of input and hidden state with their weights; gates in
            the order i, f, g, o.
        cx: [batch, hidden], the cell before.
        input_bias, hidden_bias: [4 · hidden], both or neither.

    Returns:
        The new hidden state and cell, [batch, hidden] each, and an empty workspace, which only the fused backward reads.
    """
    gates = _biased(hidden_gates, hidden_bias) + _biased(input_gates, input_bias)
    into, forget, cell, out = gates.unsafe_chunk(4, 1)
    cy = forget.sigmoid() * cx + into.sigmoid() * cell.tanh()
    return out.sigmoid() * cy.tanh(), cy, _workspace(cx)


def gru_cell(
    input_gates: Tensor, hidden_gates: Tensor, hx: Tensor, input_bias: Tensor | None, hidden_bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`aten::_thnn_fused_gru_cell` in plain operators.

    Args:
        input_gates, hidden_gates: [batch, 3 · hidden], as for `lstm_cell`; gates in the order r, z, n.
        hx: [batch, hidden], the state before.
        input_bias, hidden_bias: [3 · hidden], both or neither.

    Returns:
        The new state, [batch, hidden], and an empty workspace.
    """
    reset_in, update_in, new_in = _biased(input_gates, input_bias).unsafe_chunk(3, 1)
    reset_hidden, update_hidden, new_hidden = _biased(hidden_gates, hidden_bias).unsafe_chunk(3, 1)
    reset = (reset_hidden + reset_in).sigmoid()
    update = (update_hidden + update_in).sigmoid()
    new = (new_in + new_hidden * reset).tanh()
    return (hx - new) * update + new, _workspace(hx)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor]:
    """`aten::_fused_rms_norm` in plain operators.

    Args:
        x: [..., *normalized_shape].
        normalized_shape: sizes of the last dimensions, over which the mean of squares goes.
        weight: of that shape, or None.
        eps: added to the mean; the least step from 1 of the numbers' type if None.

    Returns:
        The normalised numbers, and 1 / root mean square [..., 1 for each dimension of `normalized_shape`].
    """
    dims = tuple(range(-len(normalized_shape), 0))
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    least = torch.finfo(wide.dtype).eps if eps is None else eps
    scale = (wide.pow(2).mean(dims, keepdim=True) + least).rsqrt()
    made = (wide * scale).type_as(x)
    return (made if weight is None else made * weight), scale


def _biased(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


def _workspace(like: Tensor) -> Tensor:
    return torch.empty(0, dtype=like.dtype, device=like.device)


_KERNELS = {"_thnn_fused_lstm_cell": lstm_cell, "_thnn_fused_gru_cell": gru_cell, "_fused_rms_norm": rms_norm}
