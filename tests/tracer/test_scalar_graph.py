"""Scalar granularity: the whole scalar graph, edge by edge, against the oracle's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gradtrace.tracer import trace
from gradtrace.tracer.errors import BudgetError, LookupTraceError, TraceError
from tests.oracle.blocking import blocked_oracle
from tests.oracle.components import inside
from tests.problems.collection import by_name
from tests.tracer.judging import told_components
from tests.tracer.oracles import oracle_of
from tests.tracer.scalar_judging import assert_true

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
    *("write/slice_add", "write/slice_masked", "write/slice_chain", "write/row_writes", "situation/frozen"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_edge_and_gradient_and_pointer(name: str) -> None:
    problem = by_name(name)
    model, closure = problem.make(0)
    found = trace(closure, model, mode=MODES, granularity="scalar")
    assert_true(found.scalar_graph(), found.graph, oracle_of(problem), MODES)


@pytest.mark.parametrize(
    ("name", "blocked"),
    [("net/residual", ("blocks.0", "norms.1")), ("recurrent/lstm_two_layers_last", ("core.l0.forget_gate",))],
)
def test_scalars_of_blocked_components_stand_alone(name: str, blocked: tuple[str, ...]) -> None:
    problem = by_name(name)
    plain = oracle_of(problem)
    model, closure = problem.make(0)
    found = trace(closure, model, granularity="scalar", blocked=blocked)
    components = told_components(found, plain, "greedy")
    truth, leaf = plain.graph, [node.leaf is not None for node in plain.graph.recording.nodes]
    shut = [
        v
        for v in range(truth.size)
        if not leaf[truth.owner[v]] and any(inside(components.of[v], component) for component in blocked)
    ]
    assert shut
    graph = found.scalar_graph()
    assert_true(graph, found.graph, blocked_oracle(plain, components, blocked), ("greedy",), shut)
    total = np.zeros(len(graph.gradient))
    np.add.at(total, graph.source, graph.weight * graph.gradient[graph.target])
    total[graph.loss] = 1.0
    np.testing.assert_allclose(total, graph.gradient, rtol=1e-9, atol=1e-12)


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
