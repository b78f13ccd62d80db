"""The loop that the frameworks' loops are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gradtrace.tracer import Tracer
from gradtrace.tracer.sinks import MemorySink
from gradtrace.tracer.steptrace import StepTrace
from tests.same import same


def by_hand(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Any],
    loss_of: Callable[[nn.Module, Any], torch.Tensor],
    *,
    parts: int = 1,
    **options: Any,
) -> MemorySink:
    """Train over `batches`, `parts` of them a step, of which the first is traced."""
    sink = MemorySink()
    tracer = Tracer(model, sink=sink, run="r", **options)
    for start in range(0, len(batches), parts):
        optimizer.zero_grad()
        with tracer.step() as step:
            step.backward(loss_of(model, batches[start]))
        for batch in batches[start + 1 : start + parts]:
            loss_of(model, batch).backward()
        optimizer.step()
    return sink


def assert_same_steps(found: MemorySink, expected: MemorySink) -> None:
    """Both hold the same traces, bit for bit; names of runs and numbers of epochs aside."""
    assert [s for _, s in found.steps] == [s for _, s in expected.steps]
    for a, b in zip(found.steps.values(), expected.steps.values(), strict=True):
        assert same(bare(a), bare(b)), f"step {a.step}"


def bare(step: StepTrace) -> StepTrace:
    """The step without the name of its run and its epoch."""
    return replace(step, run="", epoch=0)
