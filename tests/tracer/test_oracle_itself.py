"""The oracle against itself, before it judges anything else."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import oracle as oracle_package
from tests.oracle.oracle import Oracle
from tests.oracle.routes import route
from tests.oracle.traces import all_paths, invariant_error, is_path
from tests.problems import Problem, by_name, everything
from tests.tracer.oracles import oracle_of

TINY = ("shared/square", "shared/reuse", "shared/diamond", "shared/highway", "contract/mm_self", "net/embedding_freq",
        "loss/mse_both", "write/slice_add", "odd/ties_rows", "recurrent/rnn_cell")  # fmt: skip


@pytest.mark.parametrize("problem", everything(), ids=lambda p: p.name)
def test_weights_times_gradients_add_up(problem: Problem) -> None:
    assert invariant_error(oracle_of(problem).graph) < problem.tolerance


@pytest.mark.parametrize("name", TINY)
def test_maxprod_is_the_best_of_all_paths(name: str) -> None:
    found = oracle_of(by_name(name))
    traces = found.traces("maxprod")
    checked = 0
    for vertex in _leaf_scalars(found):
        paths = all_paths(found.graph, vertex)
        products = [math.exp(np.log(np.abs(found.graph.weight[p])).sum()) for p in paths]
        assert all(is_path(found.graph, p) for p in paths)
        if products:
            assert math.exp(traces.best[vertex]) == pytest.approx(max(products), rel=1e-12)
            chosen = np.log(np.abs(found.graph.weight[traces.path(vertex)])).sum()
            assert math.exp(chosen) == pytest.approx(max(products), rel=1e-12)
            checked += 1
    assert checked


@pytest.mark.parametrize("name", TINY)
def test_gradients_are_sums_over_all_paths(name: str) -> None:
    found = oracle_of(by_name(name))
    for vertex in _leaf_scalars(found):
        total = sum(float(np.prod(found.graph.weight[p])) for p in all_paths(found.graph, vertex))
        assert total == pytest.approx(found.graph.gradient[vertex], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "ops"),
    [
        ("move/none", ["Mul", "Tanh", "Mul", "Mul", "Sum", "Pow", "Mul", "Sum", "Add"]),
        ("move/view_chain", ["Mul", "Tanh", "Mul", "Mul", "Sum", "Pow", "Mul", "Sum", "Add"]),
        ("move/where_computed", ["Mul", "Tanh", "Mul", "Mul", "Sum", "Pow", "Mul", "Sum", "Add"]),
        ("activation/relu", ["Addmm", "Relu", "Addmm", "Relu", "Addmm", "LogSoftmax", "NllLoss"]),
        ("shared/plus_zero", ["Add", "Mul", "Add", "Mul", "Sum"]),
        ("reduce/sum_one", ["Mul", "Sum", "Sin", "Mul", "Sum"]),
        ("custom/straight_through", ["Mul", "StraightThrough", "Mul", "Mul", "Sum"]),
        ("write/slice_write", ["Mul", "Mul", "Pow", "Mul", "Sum"]),
        ("write/slice_add", ["Mul", "CopySlices", "Pow", "Mul", "Sum"]),
    ],
)
def test_what_counts_as_an_operator(name: str, ops: list[str]) -> None:
    assert [n.name for n in oracle_of(by_name(name)).graph.operators] == ops


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        (["embed", "embed", "head"], "embed head"),
        (["a", "b", "a", "b", "a", "b", "c"], "(a b)+ c"),
        (
            ["embed", "recurrent", "output_gate", "recurrent", "output_gate", "head"],
            "embed (recurrent output_gate)+ head",
        ),
        (["a", "b", "c", "b", "c", "a", "b", "c"], "a (b c)+ a b c"),
        (["a", "b", "a", "b", "c", "a", "b", "a", "b", "c"], "((a b)+ c)+"),
        ([None, "a", None, "a", "b", None], "a b"),
        ([], ""),
    ],
)
def test_routes_collapse_shortest_first(components: list[str | None], expected: str) -> None:
    assert route(components) == expected


def test_the_oracle_shares_no_code_with_the_tracer() -> None:
    folder = Path(oracle_package.__file__).parent
    allowed = set(sys.stdlib_module_names) | {"torch", "numpy"}
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in allowed or name.startswith("tests.oracle"), (file.name, name)


def _leaf_scalars(found: Oracle) -> list[int]:
    scalars = [found.graph.leaf_scalars(p) for p in found.parameters.values()]
    return [int(v) for s in scalars if s is not None for v in s[:4]]
