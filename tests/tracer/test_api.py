"""The tables and lookups of a finished trace."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import trace
from tests.oracle.oracle import consult
from tests.oracle.recording import decomposed_kernels
from tests.problems import by_name
from tests.tracer.judging import MODES


def make() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    return model, lambda: nn.functional.cross_entropy(model(x), y)


@pytest.fixture(scope="module")
def found() -> Any:
    model, loss = make()
    return trace(loss, model, mode=MODES)


def test_hops_multiply_to_the_path(found: Any) -> None:
    for mode in MODES:
        for flat in range(12):
            path = found.path("0.weight", flat, mode=mode)
            product = math.prod(h.weight for h in path.hops)
            assert path.concentration == pytest.approx(abs(product) / abs(path.parameter_gradient), rel=1e-12)
            assert path.hops[-1].gradient == 1.0
            assert path.hops[-1].index == ()
            assert path.margin >= 1.0


def test_a_scalar_is_found_by_name_parameter_tuple_or_number(found: Any) -> None:
    model, loss = make()
    again = trace(loss, model)
    a = again.path("0.weight", (1, 2))
    assert a == again.path("0.weight", 5) == again.path(model[0].weight, (1, 2)) == again.path(model[0].weight, 5)
    both = found.path("0.weight", 5)
    assert [(h.op, h.index) for h in a.hops] == [(h.op, h.index) for h in both.hops]
    assert [h.weight for h in a.hops] == pytest.approx([h.weight for h in both.hops], rel=1e-12)


def test_any_recorded_tensor_may_be_the_start() -> None:
    model, _ = make()
    x = torch.randn(5, 3, dtype=torch.float64)
    kept: dict[str, Tensor] = {}

    def loss() -> Tensor:
        kept["hidden"] = model[1](model[0](x))
        kept["moved"] = kept["hidden"].T
        return model[2](kept["moved"].T).square().sum()

    found = trace(loss, model)
    path = found.path(kept["hidden"], (2, 1))
    assert path == found.path(kept["moved"], (1, 2)) == found.path(kept["hidden"], (-3, -3))
    assert [h.op for h in path.hops] == ["Addmm", "Pow", "Sum"]
    assert path.hops[0].index[0] == 2
    weights = model[2].weight[:, 1].detach()
    assert path.hops[0].weight == pytest.approx(float(weights[path.hops[0].index[1]]), rel=1e-12)
    gradients = 2 * model[2](kept["hidden"])[2].detach()
    best = max(abs(float(w * g)) for w, g in zip(weights, gradients, strict=True))
    assert abs(path.hops[0].weight * path.hops[0].gradient) == pytest.approx(best, rel=1e-12)


def test_an_input_that_takes_a_gradient() -> None:
    model, _ = make()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    found = trace(lambda: model(x).sum(), model)
    assert [h.op for h in found.path(x, (1, 0)).hops] == ["Addmm", "Tanh", "Addmm", "Sum"]
    assert {r.parameter for r in found.parameters()} == {n for n, _ in model.named_parameters()}


def test_rows_answer_by_attribute_and_by_key(found: Any) -> None:
    for table in (found.components(), found.parameters(), found.routes(), found.edges(), found.vertices()):
        assert len(table) > 0
        row = table[0]
        frame = table.to_pandas()
        assert len(frame) == len(table)
        for column in frame.columns:
            assert str(row[column]) == str(getattr(row, column))
        with pytest.raises((KeyError, AttributeError)):
            row["no such column"]


def test_columns(found: Any) -> None:
    assert {"component", "share", "mass", "traffic", "visits", "own", "foreign", "contested", "won", "flow"} <= set(
        found.components().to_pandas().columns
    )
    assert {"parameter", "shape", "traffic", "mass", "dead", "unread", "non_finite", "strongest"} <= set(
        found.parameters().to_pandas().columns
    )
    assert {"idx", "source", "target", "slot", "flow", "peak", "traffic", "mass", "dominant"} <= set(
        found.edges().to_pandas().columns
    )
    assert {"idx", "kind", "op", "name", "component", "shape"} <= set(found.vertices().to_pandas().columns)


def test_tables_are_of_the_mode_that_is_asked_for(found: Any) -> None:
    for mode in MODES:
        batch = found.batch_trace(mode)
        assert batch.mode == mode
        assert [r.mass for r in found.components(mode)] == [c.mass for c in batch.components]
        assert [r.parameter for r in found.parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [r.mass for r in found.edges()] == list(found.batch_trace("greedy").mass)


def test_routes_are_cut_at_k_and_the_rest_is_summed() -> None:
    problem = by_name("recurrent/language")
    model, loss = problem.make(0)
    found = trace(loss, model)
    every = [r for r in found.routes(k=1000) if r.parameter == "*"]
    few = [r for r in found.routes(k=2) if r.parameter == "*"]
    assert len(every) > 3
    assert [r.rank for r in few] == [1, 2, 3]
    assert few[-1].route is None
    assert sum(r.traffic for r in few) == sum(r.traffic for r in every)
    assert sum(r.mass for r in few) == pytest.approx(sum(r.mass for r in every), rel=1e-12)
    assert sum(r.share for r in few) == pytest.approx(1.0)


def test_vertices_lie_in_the_order_of_the_forward_pass(found: Any) -> None:
    vertices = found.vertices()
    assert [v.idx for v in vertices] == list(range(len(vertices)))
    assert [v.op for v in vertices if v.kind == "operator"] == ["Addmm", "Tanh", "Addmm", "LogSoftmax"]
    assert [v.op for v in vertices if v.kind == "loss"] == ["NllLoss"]
    assert {v.name for v in vertices if v.kind == "parameter"} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    for e in found.edges():
        assert vertices[e.target].kind in ("operator", "loss")


def test_tied_weights_are_one_leaf() -> None:
    problem = by_name("net/tied")
    model, loss = problem.make(0)
    found = trace(loss, model)
    names = [r.parameter for r in found.parameters()]
    assert names == ["embed.weight", "hidden.weight", "hidden.bias"]
    assert found.path("out.weight", (3, 1)) == found.path("embed.weight", (3, 1))
    assert sum(v.kind == "parameter" for v in found.vertices()) == 3


def test_the_loss_is_reported(found: Any) -> None:
    _, loss = make()
    with decomposed_kernels():
        assert float(found.loss) == float(loss().detach())
    assert found.batch_trace("greedy").loss == float(found.loss)
    assert found.batch_trace("greedy").batch == "training"


def test_results_are_plain_data(found: Any) -> None:
    for mode in MODES:
        batch = found.batch_trace(mode)
        again = pickle.loads(pickle.dumps(batch))
        assert again.components == batch.components
        assert again.graph.fingerprint == batch.graph.fingerprint
        assert batch.traffic.dtype == np.int64
        assert batch.dominant.dtype == np.bool_
        assert {batch.flow.dtype, batch.peak.dtype, batch.mass.dtype} == {np.dtype("float64")}
        assert len(batch.flow) == len(batch.graph.edges)


def test_the_same_trace_twice_is_the_same() -> None:
    for name in ("net/block", "recurrent/lstm_two_layers_all"):
        problem = by_name(name)
        batches = []
        for _ in range(2):
            model, loss = problem.make(0)
            batches.append(trace(loss, model, mode=MODES))
        for mode in MODES:
            a, b = (t.batch_trace(mode) for t in batches)
            assert a.parameters == b.parameters
            assert a.components == b.components
            assert a.routes == b.routes
            assert np.array_equal(a.mass, b.mass)


def test_ties_go_to_the_consumer_recorded_first_then_the_lowest_index() -> None:
    a = nn.Parameter(torch.tensor([1.0, 2.0]))
    model = nn.ParameterDict({"a": a})
    found = trace(lambda: (torch.sin(a * 0) * 0 + 3 * a + 3 * a).sum(), model)
    vertices = [v for v in found.vertices() if v.op == "Mul"]
    path = found.path("a", 0)
    assert path.margin == 1.0
    assert path.hops[0].op == "Mul"
    source = next(v.idx for v in found.vertices() if v.name == "a")
    dominant = next(e for e in found.edges() if e.source == source and e.dominant)
    assert dominant.target == vertices[2].idx  # Mul(a, 0) weighs nothing; of the two others the first
    found = trace(lambda: a.expand(3, 2).tanh().sum(), model)
    assert found.path("a", 1).hops[0].index == (0, 1)


def test_deep_products_do_not_underflow() -> None:
    """maxprod over 400 layers whose product of weights is far below the smallest float."""
    a = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    model = nn.ParameterDict({"a": a})

    def loss() -> Tensor:
        y = a * 1.0
        for _ in range(400):
            y = torch.maximum(y * 1e-3, y * 1e-5)
        return y * 1e3

    found = trace(loss, model, mode="maxprod")
    path = found.path("a", 0)
    assert path is not None
    assert all(abs(h.weight) != 1e-5 for h in path.hops)


def test_weights_times_gradients_add_up_along_every_path(found: Any) -> None:
    """g of a scalar with one consumer is w·g of that consumer."""
    oracle = consult(lambda seed: make())
    for flat in range(12):
        hops = found.path("0.weight", flat).hops
        vertex = int(oracle.graph.leaf_scalars(oracle.parameters["0.weight"])[flat])
        total = sum(
            oracle.graph.weight[e] * oracle.graph.gradient[oracle.graph.target[e]] for e in oracle.graph.out[vertex]
        )
        assert total == pytest.approx(found.path("0.weight", flat).parameter_gradient, rel=1e-12)
        addmm, tanh = hops[0], hops[1]
        assert addmm.gradient == pytest.approx(tanh.weight * tanh.gradient, rel=1e-12)
