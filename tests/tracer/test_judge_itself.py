"""The judge passes what is right and finds what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.oracle.judge import Judge
from tests.oracle.reference import ReferenceTrace
from tests.oracle.traces import MODES
from tests.problems import Problem, by_name, everything
from tests.tracer.oracles import oracle_of

SAMPLE = everything()[::23]


@pytest.mark.parametrize("problem", SAMPLE, ids=lambda p: p.name)
def test_a_true_trace_passes(problem: Problem) -> None:
    oracle = oracle_of(problem)
    for mode in MODES:
        assert Judge(ReferenceTrace(oracle), oracle, mode, tolerance=problem.tolerance).run() == []


def _hop(t: Any, change: Callable[[Any], None]) -> None:
    true = t.path

    def spoilt(name: str, flat: int, mode: str) -> Any:
        path = true(name, flat, mode)
        if path is not None:
            change(path)
        return path

    t.path = spoilt


def _second_best(t: Any) -> None:
    g = t.oracle.graph
    true = t.path

    def spoilt(name: str, flat: int, mode: str) -> Any:
        path = true(name, flat, mode)
        if name == "blocks.0.0.weight" and flat == 0:
            traces = t.oracle.traces(mode)
            worst = int(traces.candidates(int(g.leaf_scalars(t.oracle.parameters[name])[flat]))[-1])
            u = int(g.target[worst])
            path.hops[0].index, path.hops[0].weight = g.index(u), float(g.weight[worst])
            path.hops[0].gradient = float(g.gradient[u])
        return path

    t.path = spoilt


def _number(which: str, place: int) -> Callable[[Any], None]:
    def spoil(t: Any) -> None:
        column = getattr(t.batch_trace("greedy"), which)
        column[place] = column[place] + 1 if column.dtype != bool else ~column[place]

    return spoil


def _row(table: str, which: str, by: float) -> Callable[[Any], None]:
    def spoil(t: Any) -> None:
        row = getattr(t.batch_trace("greedy"), table)[1]
        setattr(row, which, getattr(row, which) + by)

    return spoil


def _other_scalar(strongest: Any) -> None:
    strongest.scalar = (strongest.scalar + 1) % 3


SPOILS: dict[str, Callable[[Any], None]] = {
    "weight": lambda t: _hop(t, lambda p: setattr(p.hops[2], "weight", p.hops[2].weight * (1 + 1e-6))),
    "sign": lambda t: _hop(t, lambda p: setattr(p.hops[2], "weight", -p.hops[2].weight)),
    "gradient": lambda t: _hop(t, lambda p: setattr(p.hops[1], "gradient", p.hops[1].gradient * (1 + 1e-6))),
    "operator": lambda t: _hop(t, lambda p: setattr(p.hops[0], "op", "Mm")),
    "component": lambda t: _hop(t, lambda p: setattr(p.hops[0], "component", "head")),
    "hop left out": lambda t: _hop(t, lambda p: p.hops.pop(1)),
    "last hop left out": lambda t: _hop(t, lambda p: p.hops.pop()),
    "second best": _second_best,
    "margin": lambda t: _hop(t, lambda p: setattr(p, "margin", p.margin * 1.001)),
    "concentration": lambda t: _hop(t, lambda p: setattr(p, "concentration", p.concentration * 1.001)),
    "parameter gradient": lambda t: _hop(t, lambda p: setattr(p, "parameter_gradient", -p.parameter_gradient)),
    "route": lambda t: _hop(t, lambda p: setattr(p, "route", p.route + " head")),
    "dead": lambda t: setattr(t, "path", lambda name, flat, mode: None),
    "flow": _number("flow", 3),
    "peak": _number("peak", 3),
    "traffic": _number("traffic", 3),
    "mass": _number("mass", 3),
    "dominant": _number("dominant", 3),
    **{f"component {q}": _row("components", q, 1e-5) for q in ("share", "mass", "visits", "own", "foreign", "flow")},
    **{f"component {q}": _row("components", q, 1) for q in ("traffic", "contested", "won")},
    **{f"parameter {q}": _row("parameters", q, 1) for q in ("traffic", "mass", "dead", "unread", "non_finite")},
    **{f"route {q}": _row("routes", q, 1) for q in ("traffic", "mass")},
    "strongest": lambda t: _other_scalar(t.batch_trace("greedy").parameters[0].strongest),
    "edge missing": lambda t: t.batch_trace("greedy").graph.edges.pop(),
    "vertex renamed": lambda t: setattr(t.batch_trace("greedy").graph.vertices[-2], "op", "Other"),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_spoilt_trace_is_found(name: str) -> None:
    oracle = oracle_of(by_name("net/residual"))
    spoilt = ReferenceTrace(oracle)
    assert Judge(spoilt, oracle, "greedy").run() == []
    SPOILS[name](spoilt)
    assert Judge(spoilt, oracle, "greedy").run() != []
