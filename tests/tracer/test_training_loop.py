"""The Tracer in a training loop."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import Tracer, trace
from gradtrace.tracer.errors import GradtraceError, UntraceableOperatorError
from gradtrace.tracer.sinks import MemorySink

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 0, 1, 1, 0])


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def loss_of(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(model(X), Y)


def train(tracer: Tracer, model: nn.Module, steps: int, epoch: int = 0) -> list[bool]:
    """A few steps of plain descent; which of them were traced."""
    traced = []
    for _ in range(steps):
        model.zero_grad()
        with tracer.step(epoch=epoch) as step:
            step.backward(loss_of(model))
        traced.append(step.traced)
        assert (step.trace is not None) == step.traced
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.grad
    return traced


def test_every_nth_step() -> None:
    model, sink = net(), MemorySink()
    with Tracer(model, sink=sink, run="r", every=3) as tracer:
        assert train(tracer, model, 5, epoch=0) == [True, False, False, True, False]
        assert train(tracer, model, 3, epoch=1) == [False, True, False]
        assert tracer.step_number == 8
    steps = list(sink.steps.values())
    assert [(s.run, s.step, s.epoch) for s in steps] == [("r", 0, 0), ("r", 3, 0), ("r", 6, 1)]
    assert steps[0].loss > steps[2].loss
    assert all(s.traces[0].loss == s.loss for s in steps)


def test_log_spaced_steps() -> None:
    model = net()
    with Tracer(model, every=lambda step: step & (step - 1) == 0) as tracer:
        assert train(tracer, model, 9) == [True, True, True, False, True, False, False, False, True]


def test_steps_share_one_graph_and_batches_of_other_sizes_get_another() -> None:
    model, sink = net(), MemorySink()
    with Tracer(model, sink=sink, every=1) as tracer:
        train(tracer, model, 3)
        with tracer.step() as step:
            step.backward(nn.functional.cross_entropy(model(X[:2]), Y[:2]))
    graphs = [s.traces[0].graph for s in sink.steps.values()]
    assert len({g.fingerprint for g in graphs[:3]}) == 1
    assert graphs[0] is graphs[1]
    assert graphs[3].fingerprint != graphs[0].fingerprint
    assert graphs[3].architecture_hash == graphs[0].architecture_hash


def test_a_traced_step_is_what_trace_gives() -> None:
    model, other = net(), net()
    with Tracer(model, every=1, mode=("greedy", "maxprod")) as tracer, tracer.step() as step:
        step.backward(loss_of(model))
    alone = trace(lambda: loss_of(other), other, mode=("greedy", "maxprod"))
    for got in step.trace.traces:
        want = alone.batch_trace(got.mode)
        assert got.graph.fingerprint == want.graph.fingerprint
        assert got.components == want.components
        assert got.routes == want.routes
        assert got.parameters == want.parameters


def test_plans_follow_a_graph_that_changes() -> None:
    """A model that takes another way each step is traced right each time."""

    class Switching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.deep = 1

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(self.deep):
                x = torch.tanh(self.a(x))
            return self.b(x)

    torch.manual_seed(0)
    model = Switching()
    with Tracer(model, every=1) as tracer:
        for deep in (1, 3, 2, 1, 3):
            model.deep = deep
            with tracer.step() as step:
                step.backward(model(X).square().sum())
            found = {r.parameter: r for r in step.trace.traces[0].parameters}["a.weight"].strongest
            ops = [step.trace.traces[0].graph.vertices[v].op for v in found.vertices]
            assert ops[-4:] == ["Tanh", "Addmm", "Pow", "Sum"]
            model.zero_grad()
            alone = trace(lambda: model(X).square().sum(), model)
            assert alone.batch_trace().components == step.trace.traces[0].components
            model.zero_grad()


def test_masks_and_indices_of_one_structure_may_change() -> None:
    """Same operators and shapes, other integer arguments: nothing of the last step may linger."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(6, 3), "head": nn.Linear(3, 4)})

    def loss(tokens: Tensor, keep: Tensor) -> Tensor:
        h = torch.tanh(model["embed"](tokens)).masked_fill(~keep[:, None], 0.0)
        return nn.functional.cross_entropy(model["head"](h), tokens % 4)

    with Tracer(model, every=1) as tracer:
        for tokens, keep in (
            ([0, 1, 1], [True, True, False]),
            ([4, 5, 0], [False, True, True]),
            ([2, 2, 2], [True] * 3),
        ):
            t, k = torch.tensor(tokens), torch.tensor(keep)
            with tracer.step() as step:
                step.backward(loss(t, k))
            model.zero_grad()
            alone = trace(lambda t=t, k=k: loss(t, k), model)
            model.zero_grad()
            got, want = step.trace.traces[0], alone.batch_trace()
            assert got.parameters == want.parameters
            assert got.components == want.components
            row = {r.parameter: r for r in got.parameters}["embed.weight"]
            assert row.traffic == 3 * len({a for a, b in zip(tokens, keep, strict=True) if b})


class Refused(nn.Module):
    """A model with an operator that no rule knows and that is too large to probe."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.eye(600) + 0.01 * torch.randn(600, 600, generator=torch.Generator().manual_seed(0)))

    def forward(self) -> Tensor:
        return torch.linalg.solve(self.a, torch.eye(600)).sum()


def test_on_error_warn_keeps_training_with_its_gradients() -> None:
    plain, model, sink = Refused(), Refused(), MemorySink()
    plain().backward()
    with Tracer(model, sink=sink, every=1, on_error="warn") as tracer:
        with warnings.catch_warnings(record=True) as caught, tracer.step() as step:
            warnings.simplefilter("always")
            step.backward(model())
        assert any("Solve" in str(w.message) for w in caught)
        assert not step.traced
        assert step.trace is None
    assert torch.equal(plain.a.grad, model.a.grad)
    assert not sink.steps


def test_on_error_raise_leaves_no_half_gradient() -> None:
    model = Refused()
    with Tracer(model, every=1) as tracer:
        with pytest.raises(UntraceableOperatorError), tracer.step() as step:
            step.backward(model())
        assert model.a.grad is None


class BrokenSink(MemorySink):
    """Fails to write."""

    def write(self, step: Any) -> None:
        raise OSError("disk full")


def test_a_failing_sink_is_warned_of_or_raised() -> None:
    model = net()
    with pytest.raises(OSError, match="disk full"), Tracer(model, sink=BrokenSink(), every=1) as tracer:
        train(tracer, model, 1)
    plain = net()
    loss_of(plain).backward()
    model = net()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Tracer(model, sink=BrokenSink(), every=1, on_error="warn") as tracer, tracer.step() as step:
            step.backward(loss_of(model))
    assert any("disk full" in str(w.message) for w in caught)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), model.parameters(), strict=True))


def test_the_users_exception_inside_a_step_passes_through() -> None:
    model, sink = net(), MemorySink()
    with Tracer(model, sink=sink, every=1, on_error="warn") as tracer:
        with pytest.raises(ZeroDivisionError), tracer.step():
            1 / 0  # noqa: B018
        assert train(tracer, model, 1) == [True]


def test_a_step_without_backward_is_noticed() -> None:
    model, sink = net(), MemorySink()
    with Tracer(model, sink=sink, every=1, on_error="raise") as tracer:
        with tracer.step() as step:
            loss_of(model)
        assert step.trace is None
    assert not sink.steps


def test_settings_are_checked() -> None:
    for wrong in (
        {"every": 0},
        {"mode": "sum"},
        {"on_error": "shrug"},
        {"watch": ("no.such",)},
        {"batches": ("test",)},
    ):
        with pytest.raises((GradtraceError, ValueError)):
            Tracer(net(), **wrong)


def test_watched_parameters_and_top_routes() -> None:
    model, sink = net(), MemorySink()
    with Tracer(model, sink=sink, every=1, watch=("0.weight",), top_routes=1) as tracer:
        train(tracer, model, 1)
    step = next(iter(sink.steps.values()))
    assert step.watched == ("0.weight",)
    for parameter in {r.parameter for r in step.traces[0].routes}:
        assert sum(r.parameter == parameter and r.route is not None for r in step.traces[0].routes) == 1


@pytest.mark.parametrize("situation", ["empty", "accumulated", "taken in the backward", "taken later", "scaled after"])
def test_gradients_of_leaves_are_those_that_arrived(situation: str) -> None:
    """They are read from `.grad` where that is safe: what else happens to it changes nothing."""
    model, other = net(), net()
    alone = trace(lambda: loss_of(other), other)

    def take(p: Tensor) -> None:
        p.grad = None

    with Tracer(model, every=1) as tracer:
        for number in range(4):
            model.zero_grad()
            if situation == "accumulated":
                loss_of(model).backward()
            if situation == ("taken in the backward" if number == 0 else "taken later" if number == 2 else ""):
                for p in model.parameters():
                    p.register_post_accumulate_grad_hook(take)
            with tracer.step() as step:
                step.backward(loss_of(model))
            if situation == "scaled after":
                nn.utils.clip_grad_norm_(model.parameters(), 1e-6)
            masses = [row.mass for row in step.trace.traces[0].parameters]
            assert masses == pytest.approx([row.mass for row in alone.parameters()])
            path, expected = step.traces["training"].path("2.weight", (1, 2)), alone.path("2.weight", (1, 2))
            assert path is not None and expected is not None
            assert path.gradient == pytest.approx(expected.gradient)
            assert [h.gradient for h in path.hops] == pytest.approx([h.gradient for h in expected.hops])
