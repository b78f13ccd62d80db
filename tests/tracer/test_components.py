"""Components: modules, regions and operands named by hand, parts of recurrent modules; and what is counted of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import component, tap, trace
from gradtrace.tracer.errors import ComponentError
from tests.oracle.oracle import consult
from tests.problems.base import Problem, network, weigh
from tests.tracer.judging import MODES, judge


class Highway(nn.Module):
    """One highway layer with its ways named."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)
        self.body = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        t = torch.sigmoid(self.gate(x))
        with component("carry", role="skip"):
            carried = (1 - t) * x
        with component("transform"):
            new = t * torch.tanh(self.body(x))
        return carried + new


class Tapped(nn.Module):
    """A residual block whose skip is one named operand."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return tap(h, "skip", role="skip") + self.body(h)


def stacked(make: type[nn.Module], depth: int) -> nn.Module:
    return nn.Sequential(*[make() for _ in range(depth)])


PROBLEMS = [
    network("named/highway", lambda: stacked(Highway, 3), lambda m, x: weigh(m(x)), x=(2, 3)),
    network("named/tapped", lambda: stacked(Tapped, 2), lambda m, x: weigh(m(x)), x=(2, 3)),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_totals_of_named_components_are_exact(problem: Problem) -> None:
    findings = judge(problem.make, consult(problem.make), MODES, regions=True)
    assert not findings, "\n".join(findings[:12])


def operators(found: Any) -> list[tuple[str, str | None]]:
    return [(v.op, v.component) for v in found.vertices() if v.kind in ("operator", "loss")]


def test_regions_modules_and_the_outside_are_told_apart() -> None:
    torch.manual_seed(0)
    model = stacked(Highway, 1)
    x = torch.randn(2, 3)

    def loss() -> Tensor:
        with component("objective"):
            return model(x).square().mean()

    found = trace(loss, model)
    assert operators(found) == [
        ("Addmm", "0.gate"),
        ("Sigmoid", "0"),
        ("Rsub", "0.carry"),
        ("Mul", "0.carry"),
        ("Addmm", "0.body"),
        ("Tanh", "0.transform"),
        ("Mul", "0.transform"),
        ("Add", "0"),
        ("Pow", "objective"),
        ("Mean", "objective"),
    ]
    known = {c.path: c for c in found.graph.components}
    assert known["0.carry"].role == "skip"
    assert known["0.carry"].parent == "0"
    assert known["0"].parent == "<model>"
    assert known["0.carry"].depth == 2
    rows = {r.component: r for r in found.components()}
    assert rows["objective"].share == 1.0
    assert rows["<model>"].share == 1.0
    assert rows["<model>"].foreign == 0.0
    assert rows["0.carry"].own == 0.0


def test_a_model_that_is_called_is_the_root_component() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.w * x)

    model = Own()
    found = trace(lambda: model(torch.ones(3)).sum(), model)
    assert operators(found) == [("Mul", "<model>"), ("Tanh", "<model>"), ("Sum", None)]


def test_a_gate_open_at_the_start_carries_and_a_shut_one_transforms() -> None:
    """What the issue of win rates is for: the same network, its gate biased one way and the other."""
    rates = {}
    for bias in (-6.0, 6.0):
        torch.manual_seed(1)
        model = stacked(Highway, 4)
        for layer in model:
            nn.init.constant_(layer.gate.bias, bias)
        x = torch.randn(8, 3)
        found = trace(lambda m=model, x=x: weigh(m(x)), model)
        rows = {r.component: r for r in found.components()}
        assert rows["3.carry"].contested > 0
        rates[bias] = sum(rows[f"{i}.carry"].won for i in range(1, 4)) / sum(
            rows[f"{i}.carry"].contested for i in range(1, 4)
        )
    assert rates[-6.0] > 0.9
    assert rates[6.0] < 0.35


def test_parts_of_an_lstm() -> None:
    torch.manual_seed(0)
    model = nn.LSTM(2, 3)
    x = torch.randn(2, 1, 2)
    found = trace(lambda: model(x)[0].square().sum(), model)
    named = {c.path for c in found.graph.components}
    parts = ("input_gate", "forget_gate", "cell_gate", "output_gate", "carry", "write", "cell", "hidden")
    assert {f"l0.{p}" for p in parts} <= named
    path = found.path("weight_ih_l0", (3, 0))  # a row of the forget gate: its only way is f⊙c, at the second step
    assert path.hops[0].component == "l0.forget_gate"
    assert [h.component for h in path.hops if h.component][-3:] == ["l0.cell", "l0.cell", "l0.hidden"]
    assert path.route.startswith("l0.forget_gate l0.carry l0.cell")
    rows = {r.component: r for r in found.components()}
    assert rows["l0.forget_gate"].own > 0
    assert rows["l0.hidden"].own == 0
    assert rows["l0.hidden"].share == 1.0


def test_layers_and_directions_are_told_apart() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"rnn": nn.GRU(2, 3, num_layers=2, bidirectional=True), "head": nn.Linear(6, 2)})
    x = torch.randn(3, 1, 2)
    found = trace(lambda: model["head"](model["rnn"](x)[0]).square().sum(), model)
    named = {c.path for c in found.graph.components}
    for layer in ("rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse"):
        assert {f"{layer}.{g}" for g in ("reset_gate", "update_gate", "new_gate")} <= named
    path = found.path("rnn.weight_hh_l1_reverse", 0)
    assert path.hops[0].component == "rnn.l1_reverse.reset_gate"
    assert path.hops[-3].component == "head"


def test_routes_collapse_repeats() -> None:
    torch.manual_seed(1)
    model = nn.ModuleDict({"core": nn.RNNCell(2, 2), "mix": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    x = torch.randn(6, 1, 2)

    def loss() -> Tensor:
        h = torch.zeros(1, 2)
        for step in x:
            h = model["mix"](model["core"](step, h))
        return model["head"](h).sum()

    found = trace(loss, model)
    routes = {r.text for r in found.routes() if r.parameter == "*"}
    assert "head" in routes
    assert "(core mix)+ head" in routes
    assert all("mix core mix core" not in r for r in routes)


@pytest.mark.parametrize("name", ["", "a b", "a..b", ".a", "a+", "(a)", "<model>", 3, None])
def test_malformed_names(name: Any) -> None:
    with pytest.raises(ComponentError), component(name):
        pass
    with pytest.raises(ComponentError):
        tap(torch.ones(1), name)


def test_one_name_with_two_roles() -> None:
    with component("told.twice", role="skip"):
        pass
    with pytest.raises(ComponentError, match="role"), component("told.twice", role="gate"):
        pass


def test_names_change_no_number() -> None:
    x = torch.randn(3, 3)
    with component("anything"):
        y = tap(x, "skip")
    assert torch.equal(x, y)
    torch.manual_seed(0)
    plain = nn.Linear(3, 3)
    a = plain(x).sum()
    b = tap(plain(x), "skip").sum()
    assert torch.equal(*(torch.autograd.grad(v, plain.weight)[0] for v in (a, b)))
