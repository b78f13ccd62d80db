"""A probe batch is traced beside training and leaves nothing behind."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import Tracer
from gradtrace.tracer.sinks import MemorySink


class Normed(nn.Module):
    """Everything that a forward pass may change: running statistics, counters, random state."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.first(x)))))


def state(model: nn.Module) -> dict[str, Any]:
    """All that a probe must not touch."""
    return {
        "parameters": [p.detach().clone() for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "gradient objects": [id(p.grad) for p in model.parameters()],
        "buffers": [b.clone() for b in model.buffers()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "training": [m.training for m in model.modules()],
    }


def unchanged(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs."""
    differing = []
    for key, before in a.items():
        after = b[key]
        if isinstance(before, Tensor):
            equal = torch.equal(before, after)
        elif isinstance(before, list) and before and any(isinstance(x, Tensor) for x in before):
            equal = all((x is None and y is None) or torch.equal(x, y) for x, y in zip(before, after, strict=True))
        else:
            equal = before == after
        if not equal:
            differing.append(key)
    return differing


def run(probe: bool, batches: tuple[str, ...]) -> tuple[list[dict[str, Any]], MemorySink]:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = Normed()
    fixed_x, fixed_y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])

    def probe_loss() -> Tensor:
        random.random()
        np.random.rand()
        return nn.functional.cross_entropy(model(fixed_x), fixed_y)

    sink = MemorySink()
    states = []
    with Tracer(model, sink=sink, run="r", every=2, probe=probe_loss if probe else None, batches=batches) as tracer:
        for _ in range(4):
            x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
            model.zero_grad()
            with tracer.step(epoch=0) as step:
                loss = nn.functional.cross_entropy(model(x), y)
                step.backward(loss)
            states.append(state(model))
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
    return states, sink


def test_parameters_gradients_buffers_and_random_state_are_untouched() -> None:
    without, _ = run(False, ("training",))
    with_probe, sink = run(True, ("training", "probe"))
    for before, after in zip(without, with_probe, strict=True):
        before.pop("gradient objects"), after.pop("gradient objects")
        assert unchanged(before, after) == []
    assert [[t.batch for t in s.traces] for s in steps(sink)] == [["training", "probe"]] * 2


def test_probe_alone() -> None:
    without, _ = run(False, ("training",))
    with_probe, sink = run(True, ("probe",))
    for before, after in zip(without, with_probe, strict=True):
        before.pop("gradient objects"), after.pop("gradient objects")
        assert unchanged(before, after) == []
    assert [[t.batch for t in s.traces] for s in steps(sink)] == [["probe"]] * 2


def test_the_same_probe_of_the_same_model_gives_the_same_trace() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    sink = MemorySink()

    def probe() -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    with Tracer(model, sink=sink, run="r", every=1, probe=probe, batches=("training", "probe")) as tracer:
        for _ in range(2):  # no optimizer step between
            with tracer.step() as step:
                step.backward(nn.functional.cross_entropy(model(torch.randn(3, 4)), torch.tensor([0, 1, 2])))
    first, second = (s.traces[1] for s in steps(sink))
    assert first.loss == second.loss
    for quantity in ("flow", "peak", "traffic", "mass", "dominant"):
        assert np.array_equal(getattr(first, quantity), getattr(second, quantity))
    assert first.components == second.components


def test_a_probe_batch_needs_a_probe() -> None:
    with pytest.raises(Exception, match="probe") as caught:
        Tracer(nn.Linear(2, 2), batches=("probe",))
    assert isinstance(caught.value, ValueError | TypeError) or type(caught.value).__module__.startswith("gradtrace")


def steps(sink: MemorySink) -> list[Any]:
    """All steps that the sink took, in order."""
    return list(sink.steps.values())
