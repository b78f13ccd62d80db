"""Which operators a GPU records, from PyTorch's operator database on fake tensors: no GPU is needed to see their names."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.common_methods_invocations import op_db

from gradtrace.tracer.fused import fused_written_out
from gradtrace.tracer.recording import traceable_kernels
from gradtrace.tracer.rules.pairs import ELEMENTWISE
from tests.tracer.behind import behind

SAMPLES = 6
NOT_ON_FAKES = {"ormqr", "sparse.mm", "sparse.sampled_addmm", "to_sparse"}
"""Operators of the database that run on no fake tensor of a GPU: sparse ones are refused, and `ormqr` needs the numbers."""

pytestmark = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="NOT TESTED: this PyTorch was built without CUDA"
)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Samples that do not run on fake tensors are left out; PyTorch would log each."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.disabled = before


def recorded(op: Any, device: str) -> tuple[set[str], int]:
    """Names of the operators behind what `op` makes of its samples, and how many of these ran."""
    names: set[str] = set()
    ran = 0
    with FakeTensorMode(allow_non_fake_inputs=True), traceable_kernels(), fused_written_out():
        try:
            samples = list(itertools.islice(op.sample_inputs(device, torch.float64, requires_grad=True), SAMPLES))
        except (RuntimeError, TypeError, NotImplementedError):
            return names, ran
        for sample in samples:
            try:
                made = op(sample.input, *sample.args, **sample.kwargs)
            except (RuntimeError, TypeError, ValueError, NotImplementedError, AssertionError, IndexError):
                continue
            ran += 1
            outputs = made if isinstance(made, tuple | list) else [made]
            names |= {name.partition("Backward")[0] for name in behind(outputs)}
    return names, ran


@pytest.mark.full
def test_a_gpu_records_what_the_cpu_does() -> None:
    alone: dict[str, str] = {}
    unseen = set()
    for op in op_db:
        if op.supports_autograd:
            here, ran_here = recorded(op, "cpu")
            there, ran_there = recorded(op, "cuda")
            alone.update(dict.fromkeys(there - here, op.name))
            if ran_here and not ran_there:
                unseen.add(op.name)
    assert unseen <= NOT_ON_FAKES
    # On the CPU dropout is a product with the mask; `test_fused` has what is written out.
    assert set(alone) == {"NativeDropout"}, alone
    assert "NativeDropout" in ELEMENTWISE
