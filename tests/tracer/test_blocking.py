"""Blocked components: gradients and traces are those of the graph without the edges into them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import Tracer, blocked, component, tap, trace
from gradtrace.tracer.errors import ComponentError, TraceError
from gradtrace.tracer.sinks import MemorySink
from tests.oracle.blocking import blocked_oracle
from tests.oracle.judge import Judge
from tests.problems.collection import by_name
from tests.tracer.judging import told_components
from tests.tracer.oracles import oracle_of

BLOCKED = [
    ("net/mlp", ("2",)),
    ("net/residual", ("blocks.0", "norms.1")),
    ("net/tied", ("hidden",)),
    ("net/multihead", ("<model>",)),
    ("recurrent/rnn_tanh_two_layers_last", ("core.l0",)),
    ("recurrent/lstm_two_layers_all", ("core.l1.carry",)),
    ("recurrent/lstm_two_layers_last", ("core.l0.forget_gate", "core.l1.write")),
    ("recurrent/lstm_bidirectional_last", ("core.l0_reverse",)),
    ("recurrent/lstm_packed", ("lstm.l0.output_gate",)),
    ("recurrent/gru_plain_all", ("core.l0.update_gate",)),
    ("recurrent/gru_two_layers_last", ("core.l1.mixing",)),
    ("recurrent/lstm_cell", ("cell.hidden",)),
    ("workload/stack-rnn_superposition", ("stack.pop",)),
]
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "names"), BLOCKED, ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
def test_a_blocked_graph_is_the_graph_without_these_edges(name: str, names: tuple[str, ...]) -> None:
    problem = by_name(name)
    plain = oracle_of(problem)
    model, closure = problem.make(0)
    found = trace(closure, model, blocked=names)
    components = told_components(found, plain, "greedy")
    oracle = blocked_oracle(plain, components, names)
    assert Judge(found, oracle, "greedy", components, problem.tolerance).run() == []
    assert found.notes == ()
    for parameter, row in zip(oracle.parameters.values(), oracle.parameters, strict=True):
        scalars = oracle.graph.leaf_scalars(parameter)
        got = dict(model.named_parameters())[row].grad
        want = np.zeros(parameter.numel()) if scalars is None else oracle.graph.gradient[scalars]
        assert got is not None or scalars is None
        if got is not None:
            np.testing.assert_allclose(got.reshape(-1).numpy(), want, rtol=1e-9, atol=1e-12)


class Highway(nn.Module):
    """A layer that carries or transforms; one of the ways can be detached by hand."""

    def __init__(self, cut: str | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cut = cut
        self.entry = nn.Linear(3, 4).double()
        self.gate = nn.Linear(4, 4).double()
        self.inner = nn.Linear(4, 4).double()
        self.head = nn.Linear(4, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.entry(x)
        for _ in range(2):
            t = torch.sigmoid(self.gate(h))
            with component("transform"):
                through = t * torch.tanh(self.inner(h))
            with component("carry", role="skip"):
                past = (1 - t) * h
            if self.cut == "transform":
                through = through.detach()
            if self.cut == "carry":
                past = past.detach()
            h = through + past
        return self.head(tap(h, "last")).square().sum()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", ["carry", "transform"])
def test_blocking_a_region_is_detaching_it(way: str) -> None:
    by_hand = Highway(way)
    by_hand(X).backward()
    model = Highway()
    with blocked(model, way) as block:
        loss = block(model(X))
        loss.backward()
    assert torch.equal(loss, by_hand(X))
    want, got = gradients(by_hand), gradients(model)
    for name, gradient in got.items():
        assert torch.equal(gradient, want.get(name, torch.zeros_like(gradient))), name
    assert any(gradient.any() for gradient in got.values())
    model.zero_grad()
    model(X).backward()  # outside, nothing is blocked
    assert any(not torch.equal(gradient, got[name]) for name, gradient in gradients(model).items())


def test_blocking_a_tap_leaves_the_other_way() -> None:
    model = nn.Linear(3, 3).double()

    def loss(cut: bool) -> Tensor:
        h = model(X)
        return ((h.detach() if cut else tap(h, "skip")) + torch.tanh(h)).square().sum()

    with blocked(model, "skip") as block:
        block(loss(False)).backward()
    got = gradients(model)
    model.zero_grad()
    loss(True).backward()
    assert all(torch.equal(got[name], gradient) for name, gradient in gradients(model).items())


def test_what_is_blocked_may_be_infinite() -> None:
    """A weight of 0 makes 0 of anything: sqrt at 0 hands down no NaN."""
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        with component("root"):
            r = torch.sqrt(w)
        return (r + w).sum()

    with blocked(None, "root") as block:
        block(loss()).backward()
    assert w.grad is not None and w.grad.tolist() == [1.0, 1.0]


@pytest.mark.skipif(torch.__version__ < "2.15", reason="older ones show writes that copy only")
def test_writes_into_a_part() -> None:
    """What lies outside the written part goes past the blocked write."""

    w = torch.arange(1.0, 5.0, dtype=torch.float64, requires_grad=True)
    with blocked(None, "write") as block:
        y = w * 3
        with component("write"):
            y[1:3] *= 2.0
        loss = block(y.square().sum())
    loss.backward()
    got, w.grad = w.grad, None
    y = w * 3
    torch.cat([y[:1], y[1:3].detach() * 2.0, y[3:]]).square().sum().backward()
    assert got is not None and w.grad is not None and torch.equal(got, w.grad)
    assert got.tolist() == [18.0, 0.0, 0.0, 72.0]


def lstm_loss(model: nn.Module) -> Callable[[], Tensor]:
    return lambda: model(X.reshape(2, 3, 3))[0].square().sum()


def test_a_tracer_blocks_at_every_step() -> None:
    def train(names: tuple[str, ...], every: int) -> tuple[list[Tensor], MemorySink]:
        torch.manual_seed(0)
        model = nn.LSTM(3, 4).double()
        sink = MemorySink()
        tracer = Tracer(
            model, sink=sink, every=every, blocked=names, batches=("training", "probe"), probe=lstm_loss(model)
        )
        for _ in range(4):
            model.zero_grad()
            with tracer.step() as step:
                loss = lstm_loss(model)()
                step.backward(loss)
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad  # type: ignore[operator]  # every parameter has one
        return [p.detach().clone() for p in model.parameters()], sink

    traced, sink = train(("l0.carry",), 1)
    untraced, _ = train(("l0.carry",), 100)
    free, open_sink = train((), 1)
    assert all(torch.equal(a, b) for a, b in zip(traced, untraced, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(traced, free, strict=True))
    carried = [
        {t.batch: next(c.traffic for c in t.components if c.component == "l0.carry") for t in step.traces}
        for step in sink.steps.values()
    ]
    assert carried == [{"training": 0, "probe": 0}] * 4
    assert any(c.traffic for s in open_sink.steps.values() for c in s.traces[0].components if c.component == "l0.carry")


def test_gradient_accumulation_is_blocked_in_every_backward() -> None:
    model = Highway()
    tracer = Tracer(model, blocked=["carry"], every=1)
    with tracer.step() as step:
        step.backward(model(X[:3]))
        step.backward(model(X[3:]))
    got = gradients(model)
    by_hand = Highway("carry")
    by_hand(X[:3]).backward()
    by_hand(X[3:]).backward()
    assert all(torch.equal(got[name], g) for name, g in gradients(by_hand).items())


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("cary",), "no component 'cary'. Did you mean carry"),
        (("embed",), "No operator of this loss belongs to the component 'embed'"),
        ((), "Name the components to block"),
        (("carry", 3), "Name the components to block"),
    ],
)
def test_components_that_cannot_be_blocked(names: tuple[str, ...], words: str) -> None:
    model = Highway()
    model.embed = nn.Embedding(3, 2)
    with pytest.raises(ComponentError, match=words), blocked(model, *names) as block:
        block(model(X))
    assert all(p.grad is None for p in model.parameters())


def test_a_wrong_name_is_no_matter_of_on_error() -> None:
    """Training must not go on unblocked in silence."""
    model = Highway()
    tracer = Tracer(model, blocked=["cary"], on_error="warn")
    with pytest.raises(ComponentError), tracer.step() as step:
        step.backward(model(X))


def test_only_greedy_traces_of_blocked_components() -> None:
    model = Highway()
    with pytest.raises(TraceError, match="only greedy"):
        trace(lambda: model(X), model, mode=("greedy", "maxprod"), blocked=("carry",))
    with pytest.raises(TraceError, match="only greedy"):
        Tracer(model, mode="maxprod", blocked=("carry",))
