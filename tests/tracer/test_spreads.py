"""The modes entropy and abs-sum: exact for every scalar, against sums over all paths."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import Tracer, trace
from gradtrace.tracer.errors import LookupTraceError, TraceError
from tests.oracle.spreads import PathWeights, SpreadJudge, by_brute_force
from tests.problems import Problem, by_name, everything
from tests.tracer.judging import told_components
from tests.tracer.oracles import oracle_of
from tests.tracer.test_oracle_itself import TINY

BOTH = ("greedy", "entropy", "abs-sum")


@pytest.mark.parametrize("name", TINY)
def test_the_oracle_sums_over_all_paths(name: str) -> None:
    found = oracle_of(by_name(name))
    weights = PathWeights(found.graph)
    checked = 0
    for tensor in found.parameters.values():
        vertices = found.graph.leaf_scalars(tensor)
        for v in [] if vertices is None else vertices.tolist():
            if weights.total[v] > -math.inf:
                total, entropy = by_brute_force(found.graph, v)
                assert math.exp(weights.total[v]) == pytest.approx(total, rel=1e-12)
                assert weights.entropy[v] == pytest.approx(entropy, rel=1e-9, abs=1e-12)
                checked += 1
    assert checked


FIFTH = random.Random(3).sample(everything(), len(everything()) // 5)
REST = [problem for problem in everything() if problem not in FIFTH]


@pytest.mark.parametrize(
    "problem", [*FIFTH, *(pytest.param(p, marks=pytest.mark.full) for p in REST)], ids=lambda p: p.name
)
def test_sums_over_all_paths_are_exact(problem: Problem) -> None:
    oracle = oracle_of(problem)
    model, closure = problem.make(0)
    found = trace(closure, model, mode=BOTH)
    components = told_components(found, oracle, "greedy") if problem.regions else oracle.components
    findings = SpreadJudge(found, oracle, components, problem.tolerance).run()
    assert not findings, "\n".join(findings[:12])


def small() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    return model, lambda: model(x).square().sum()


def test_they_do_not_change_what_the_other_modes_say() -> None:
    model, loss = small()
    alone = trace(loss, model, mode=("greedy", "maxprod"))
    model.zero_grad()
    beside = trace(loss, model, mode=("greedy", "entropy", "maxprod"))
    for mode in alone.modes:
        assert alone.parameters(mode) == beside.parameters(mode)
        assert alone.components(mode) == beside.components(mode)


def test_they_follow_no_path() -> None:
    model, loss = small()
    found = trace(loss, model, mode="entropy")
    assert found.modes == ("entropy",)
    assert found.parameters()[0].entropy > 0
    assert found.components()[0].share == pytest.approx(1.0)
    for ask in (lambda: found.path("0.weight", 0), found.routes, found.edges, found.batch_trace):
        with pytest.raises(LookupTraceError, match="follows none"):
            ask()
    with pytest.raises(LookupTraceError, match="were not traced"):
        trace(loss, model).spread("0.weight")
    with pytest.raises(TraceError, match="goes with one that follows paths"):
        Tracer(model, mode="entropy")


def test_any_recorded_tensor_has_its_sums() -> None:
    model, _ = small()
    x = torch.randn(5, 3, dtype=torch.float64)
    kept: dict[str, Tensor] = {}

    def loss() -> Tensor:
        kept["hidden"] = model[1](model[0](x))
        return model[2](kept["hidden"]).sum()

    found = trace(loss, model, mode="entropy")
    spread = found.spread(kept["hidden"])
    weight = model[2].weight.detach().numpy()  # each hidden scalar has two paths, of these weights
    shares = np.abs(weight) / np.abs(weight).sum(0)
    assert spread.abs_sum.shape == (5, 4)
    assert np.allclose(spread.abs_sum, np.abs(weight).sum(0))
    assert np.allclose(spread.entropy, -(shares * np.log(shares)).sum(0))
    assert np.allclose(spread.coherence, np.abs(weight.sum(0)) / np.abs(weight).sum(0))
    assert np.allclose(spread.gradient, weight.sum(0))


def test_long_products_do_not_underflow() -> None:
    model = nn.ParameterDict({"a": nn.Parameter(torch.tensor(0.5, dtype=torch.float64))})

    def loss() -> Tensor:
        y, dead = model["a"] * 1.0, model["a"] * 0.0
        for _ in range(400):
            y = y * 1e-3 + y * 3e-3
        return (y + dead) * 1.0

    spread = trace(loss, model, mode=("entropy", "greedy")).spread("a")
    one = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert spread.entropy == pytest.approx(400 * one, rel=1e-12)
    assert spread.abs_sum == 0  # 4e-3 to the power of 400 is below the smallest float


class Cut(torch.autograd.Function):
    """Hands no gradient down: autograd has none at all, not zeros, for what lies below."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> None:
        return None


def test_what_no_gradient_comes_to_changes_no_sum() -> None:
    model, _ = small()
    norm = nn.BatchNorm1d(4).double().eval()
    x = torch.randn(5, 3, dtype=torch.float64)

    def loss(cut: bool) -> Tensor:
        hidden = model[0](x)
        dead = Cut.apply(norm(hidden * hidden)).sum() if cut else 0.0
        return dead + model[2](model[1](hidden)).softmax(-1).square().sum()

    kept, alone = (trace(lambda cut=cut: loss(cut), model, mode=BOTH) for cut in (True, False))
    for name, _ in model.named_parameters():
        for quantity in ("abs_sum", "entropy", "gradient"):
            told, wanted = (getattr(found.spread(name), quantity) for found in (kept, alone))
            np.testing.assert_allclose(told, wanted, rtol=1e-12)
            assert np.any(wanted)


def test_weights_that_are_not_finite_are_left_out_and_told() -> None:
    model = nn.ParameterDict({"a": nn.Parameter(torch.tensor([1.0, 2.0]))})
    factor = torch.tensor([3.0, math.inf])
    found = trace(lambda: (model["a"] * factor).sum(), model, mode=("greedy", "abs-sum"))
    assert found.spread("a").abs_sum.tolist() == [3.0, 0.0]
    assert found.spread_trace().non_finite
