"""What researchers do around a model: traced exactly, or refused in words that say the way out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import Tracer, trace
from gradtrace.tracer.errors import UntraceableOperatorError
from gradtrace.tracer.rules import inplace
from tests.oracle.judge import Judge
from tests.oracle.oracle import consult_loss
from tests.problems.base import Scene, weigh

# -- in-place writes ----------------------------------------------------------------------------------------------


def two() -> Scene:
    torch.manual_seed(0)
    return Scene({"a": (4, 3), "b": (2, 3)}, {})


def test_copies_into_large_tensors_need_no_probing() -> None:
    model = nn.Linear(64, 128)

    def loss() -> Tensor:
        y = torch.zeros(128, 128)
        y[::2] = model(torch.eye(64))
        y[1] = y[0]
        return y.square().sum()

    ops = [v.op for v in trace(loss, model, probe_budget=0).batch_trace().graph.vertices if v.op]
    assert ops == ["Addmm", "Pow", "Sum"]


def test_arithmetic_on_a_part_of_a_large_tensor_needs_no_probing() -> None:
    model = nn.Linear(64, 128)

    def loss() -> Tensor:
        y = torch.zeros(128, 128)
        y[:64].add_(model(torch.eye(64)))
        return y.square().sum()

    path = trace(loss, model, probe_budget=0).path("bias", 5)
    assert path is not None
    assert [hop.op for hop in path.hops] == ["Addmm", "CopySlices", "Pow", "Sum"]


def test_a_plan_is_not_reused_for_another_write() -> None:
    model = two()
    tracer = Tracer(model, every=1)
    writes = (
        lambda y: y[1:3].copy_(model.b), lambda y: y[1:3].add_(model.b), lambda y: y[0:2].copy_(model.b),
        lambda y: y[0:2].add_(model.b, alpha=2), lambda y: y[0:2].add_(model.b, alpha=4),
        lambda y: y[1:3].mul_(model.b), lambda y: y[::2].copy_(model.b),
    )  # fmt: skip
    for write in writes * 2:
        with tracer.step() as step:
            y = model.a * 2
            write(y)
            loss = weigh(y**2)
            oracle = consult_loss(loss, model)
            step.backward(loss)
        assert step.trace is not None
        findings = Judge(step.traces["training"], oracle, "greedy").run()
        assert not findings, findings[:5]


def test_writes_that_an_older_torch_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inplace, "inner", lambda node: None)
    model = two()

    def copied() -> Tensor:
        y = model.a * 2
        y[1:3] = model.b
        return weigh(y**2)

    def added() -> Tensor:
        y = model.a * 2
        y[1:3].mul_(model.b)
        return weigh(y**2)

    path = trace(copied, model).path("b", (0, 1))
    assert path is not None
    assert [hop.op for hop in path.hops] == ["Pow", "Mul", "Sum"]
    with pytest.raises(UntraceableOperatorError, match="Update torch"):
        trace(added, model)
