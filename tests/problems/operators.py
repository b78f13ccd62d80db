"""PyTorch's own operator database as problems: every differentiable operator on its own samples.

A sample becomes a problem whose parameters are the sample's tensors that take gradients. The first drawing is the sample
itself; further ones (which tell the oracle what moves data and what computes) take new floats from the operator's own
generator, so that they stay in its domain, and keep integers, booleans and numbers. Where none of an operator's own samples can be
judged, smaller ones stand in (`operator_samples`).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from tests.problems.base import Closure, Problem, weigh
from tests.problems.operator_samples import SMALL

MAX_OUTPUT = 512
"""Output scalars that a sample may have."""
MAX_INPUT = (400, 1600)
"""Scalars that take gradients in a sample: as many as the second number only if no sample has fewer than the first."""
KEPT = 3
"""Samples of one operator."""


@cache
def database() -> dict[str, Any]:
    """PyTorch's descriptions of its differentiable operators with float64 samples, by name (`name.variant`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    found = {}
    for op in op_db:
        if op.supports_autograd and torch.float64 in op.dtypes:
            found[op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")] = op
    return dict(sorted(found.items()))


class Sample(nn.Module):
    """The tensors of one sample that take gradients, as parameters, and the call that uses them."""

    def __init__(self, op: Any, values: list[Any], spec: Any, process: Any) -> None:
        super().__init__()
        self._op, self._spec, self._process = op, spec, process
        self._values = values
        self._places = []
        for at, value in enumerate(values):
            if isinstance(value, Tensor) and value.requires_grad:
                self.register_parameter(f"p{at}", nn.Parameter(value.detach().clone()))
                self._places.append(at)

    def outputs(self) -> list[Tensor]:
        """Every output that takes a gradient."""
        values = list(self._values)
        for at in self._places:
            values[at] = self.get_parameter(f"p{at}")
        first, args, kwargs = tree_unflatten(values, self._spec)
        out = self._op(first, *args, **kwargs)
        if self._process is not None:
            out = self._process(out)
        return [o for o in tree_flatten(out)[0] if isinstance(o, Tensor) and o.requires_grad and o.numel()]

    def loss(self) -> Tensor:
        """A weighted sum of all outputs."""
        return sum((weigh(_real(o)) for o in self.outputs()), torch.zeros((), dtype=torch.float64))


def _real(output: Tensor) -> Tensor:
    return torch.view_as_real(output.resolve_conj()) if output.is_complex() else output


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _drawn(op: Any, seed: int) -> Iterator[tuple[list[Any], Any, Any]]:
    """Samples of an operator, flattened."""
    _seed(seed)
    for sample in op.sample_inputs("cpu", torch.float64, requires_grad=True):
        values, spec = tree_flatten((sample.input, sample.args, sample.kwargs))
        yield values, spec, sample.output_process_fn_grad


@cache
def _samples(name: str, seed: int) -> list[tuple[list[Any], Any, Any]]:
    op = database()[name]
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        found = [sample for sample, _ in zip(_drawn(op, seed), range(40), strict=False)]
        for call in SMALL.get(name, lambda: iter(()))():
            values, spec = tree_flatten(call)
            found.append((values, spec, None))
        return found


def _mix(kept: list[Any], fresh: list[Any]) -> list[Any]:
    """The kept sample with the floats of another one; slightly disturbed where that does not fit."""
    fits = len(kept) == len(fresh) and all(
        not isinstance(a, Tensor) or (isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype)
        for a, b in zip(kept, fresh, strict=True)
    )
    mixed = []
    for at, value in enumerate(kept):
        if isinstance(value, Tensor) and value.is_floating_point():
            if fits:
                value = fresh[at]
            else:
                value = (value.detach() * (1 + 0.01 * torch.rand_like(value))).requires_grad_(value.requires_grad)
        mixed.append(value)
    return mixed


def _problem(name: str, at: int) -> Problem:
    op = database()[name]

    def make(seed: int) -> tuple[nn.Module, Closure]:
        kept, spec, process = _samples(name, 0)[at]
        with torch.random.fork_rng(devices=[]):
            _seed(seed)
            values = kept if seed == 0 else _mix(kept, _samples(name, seed)[at][0])
        model = Sample(op, values, spec, process)

        def closure() -> Tensor:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
                warnings.simplefilter("ignore")
                _seed(1000 + seed)
                return model.loss()

        return model, closure

    exact = all(p.dtype == torch.float64 for p in make(0)[0].parameters())
    return Problem(f"op/{name}#{at}", make, ties=True, rough=not exact)


def problems_of(name: str) -> list[Problem]:
    """Up to KEPT samples of one operator that are small enough to be judged: the first, the last and one between."""
    small: list[Problem] = []
    for least, most in zip((0, *MAX_INPUT), MAX_INPUT, strict=False):
        for at, (values, _, _) in enumerate(_samples(name, 0)):
            learnt = sum(v.numel() for v in values if isinstance(v, Tensor) and v.requires_grad)
            if least < learnt <= most and _fits(problem := _problem(name, at)):
                small.append(problem)
        if small:
            break
    return small if len(small) <= KEPT else [small[0], small[len(small) // 2], small[-1]]


def _fits(problem: Problem) -> bool:
    """Whether a sample runs, is small enough, and has finite gradients."""
    model, closure = problem.make(0)
    assert isinstance(model, Sample)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        _seed(1000)
        try:
            outputs = sum(o.numel() for o in model.outputs())
        except RuntimeError:  # a view of storage that a parameter does not have, an operator that this machine lacks
            return False
    if not 0 < outputs <= MAX_OUTPUT:
        return False
    closure().backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return all(bool(torch.isfinite(g.to_dense()).all()) for g in found)
