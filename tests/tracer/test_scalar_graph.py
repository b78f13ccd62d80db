"""Scalar granularity: the whole scalar graph, edge by edge, against the oracle's."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from gradtrace.tracer import ScalarGraph, trace
from gradtrace.tracer.errors import BudgetError, LookupTraceError, TraceError
from tests.oracle.oracle import Oracle
from tests.problems.collection import by_name
from tests.tracer.oracles import oracle_of

MODES = ("greedy", "maxprod")
NAMES = (
    *(
        "net/mlp",
        "net/tied",
        "net/embedding",
        "net/multihead",
        "net/layer_norm_2d",
        "net/conv2d_groups",
        "net/max_pool1d",
    ),
    *("recurrent/lstm_two_layers_last", "recurrent/gru_cell", "move/cat_constant", "move/index", "activation/softmax"),
)


def numbering(graph: ScalarGraph, found: object, oracle: Oracle) -> dict[tuple[int, int, int], int]:
    """(oracle's node, output, flat index) → vertex of the tracer's graph."""
    vertices = found.graph.vertices  # type: ignore[attr-defined]  # a Trace
    operators = [v.idx for v in vertices if v.kind in ("operator", "loss")]
    position = {idx: node.position for idx, node in zip(operators, oracle.graph.operators, strict=True)}
    names = {v.name: v.idx for v in vertices if v.kind == "parameter"}
    for name, parameter in oracle.parameters.items():
        node = oracle.graph.recording.leaf_node(parameter)
        if node is not None:
            position[names[name]] = node.position
    return {
        (position[v], int(o), int(i)): at
        for at, (v, o, i) in enumerate(zip(graph.vertex.tolist(), graph.output, graph.index, strict=True))
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_edge_and_gradient_and_pointer(name: str) -> None:
    problem = by_name(name)
    oracle = oracle_of(problem)
    model, closure = problem.make(0)
    found = trace(closure, model, mode=MODES, granularity="scalar")
    graph, truth = found.scalar_graph(), oracle.graph
    at = numbering(graph, found, oracle)
    # a write or a choice by data may own scalars that are aliases; no vertex of the oracle's may be missing
    place = {int(v): at[int(truth.owner[v]), int(truth.output[v]), int(truth.flat[v])] for v in truth.vertices
             if (int(truth.owner[v]), int(truth.output[v]), int(truth.flat[v])) in at}  # fmt: skip
    used = set(truth.source.tolist()) | set(truth.target.tolist())
    assert used <= set(place)
    want: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for s, t, k, w in zip(truth.source, truth.target, truth.slot, truth.weight, strict=True):
        if w != 0:
            want[place[int(s)], place[int(t)], int(k)].append(float(w))
    got: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for s, t, k, w in zip(graph.source.tolist(), graph.target.tolist(), graph.slot.tolist(), graph.weight, strict=True):
        got[s, t, k].append(float(w))
    assert got.keys() == want.keys()
    for key, weights in want.items():
        np.testing.assert_allclose(sorted(got[key]), sorted(weights), rtol=1e-9, atol=1e-12)
    edges = found.graph.edges
    for s, t, k, e in zip(graph.source, graph.target, graph.slot, graph.edge, strict=True):
        edge = edges[int(e)]
        assert (edge.source, edge.target, edge.slot) == (graph.vertex[s], graph.vertex[t], k)
    for v in used:
        assert graph.gradient[place[v]] == pytest.approx(truth.gradient[v], rel=1e-9, abs=1e-12)
    assert graph.loss == place[truth.loss] and (graph.source < graph.target).all()
    for mode in MODES:
        traces = oracle.traces(mode)
        for v in used - {truth.loss}:
            chosen = int(graph.next[mode][place[v]])
            if not traces.live(v):
                assert chosen == -1 or traces.best[v] < -80
                continue
            mine = truth.out[v]
            best = {place[int(truth.target[e])] for e in mine if traces.value[e] > traces.best[v] - 1e-9}
            assert chosen >= 0 and graph.source[chosen] == place[v] and int(graph.target[chosen]) in best


def test_the_pointers_are_the_paths() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    found = trace(lambda: model(x).square().sum(), model, mode=MODES, granularity="scalar")
    graph = found.scalar_graph()
    for mode in MODES:
        for at in np.flatnonzero(graph.vertex == 0)[:12].tolist():
            path = found.path("0.weight", int(graph.index[at]), mode=mode)
            assert path is not None
            for hop in path.hops:
                edge = int(graph.next[mode][at])
                at = int(graph.target[edge])
                assert graph.weight[edge] == pytest.approx(hop.weight, rel=1e-5)
                assert (graph.vertex[at], graph.component[at]) == (hop.vertex, hop.component)
            assert at == graph.loss


def test_the_budget_is_told_before_anything_is_run() -> None:
    model = nn.Linear(100, 100)
    x = torch.ones(3, 100)
    with pytest.raises(BudgetError, match=r"at least .* beyond the budget of 5,000 vertices and edges"):
        trace(lambda: model(x).sum(), model, granularity="scalar", graph_budget=5000)
    assert model.weight.grad is None
    soft = nn.Softmax(-1)
    with pytest.raises(BudgetError, match="more than"):
        trace(lambda: soft(model(x)).square().sum(), model, granularity="scalar", graph_budget=60_000)
    assert model.weight.grad is None


def test_other_granularities() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(TraceError, match="operator, scalar"):
        trace(lambda: model(torch.ones(1, 2)).sum(), model, granularity="atom")
    with pytest.raises(LookupTraceError, match="granularity='scalar'"):
        trace(lambda: model(torch.ones(1, 2)).sum(), model).scalar_graph()
