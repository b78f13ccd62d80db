"""Hold a scalar graph against the oracle's, whatever way it came: from the tracer, a file or the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pytest

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.scalargraph import ScalarGraph
from tests.oracle.oracle import Oracle


def numbering(graph: ScalarGraph, operators: Graph, oracle: Oracle) -> dict[tuple[int, int, int], int]:
    """(oracle's node, output, flat index) → vertex of the tracer's graph."""
    made = [v.idx for v in operators.vertices if v.kind in ("operator", "loss")]
    position = {idx: node.position for idx, node in zip(made, oracle.graph.operators, strict=True)}
    names = {v.name: v.idx for v in operators.vertices if v.kind == "parameter"}
    for name, parameter in oracle.parameters.items():
        node = oracle.graph.recording.leaf_node(parameter)
        if node is not None:
            position[names[name]] = node.position
    return {
        (position[v], int(o), int(i)): at
        for at, (v, o, i) in enumerate(zip(graph.vertex.tolist(), graph.output, graph.index, strict=True))
    }


def assert_true(
    graph: ScalarGraph, operators: Graph, oracle: Oracle, modes: Iterable[str], alone: Iterable[int] = ()
) -> None:
    """Every vertex, edge, weight, gradient and pointer is the oracle's.

    Args:
        graph: what is judged.
        operators: the operator graph that it refers to.
        oracle: the truth.
        modes: whose pointers are looked at.
        alone: scalars of the oracle's that have no edges, since they are blocked.
    """
    truth, shut = oracle.graph, set(alone)
    at = numbering(graph, operators, oracle)
    where = {int(v): (int(truth.owner[v]), int(truth.output[v]), int(truth.flat[v])) for v in truth.vertices}
    place = {v: at[key] for v, key in where.items() if key in at}
    used = set(truth.source.tolist()) | set(truth.target.tolist())
    assert used <= set(place) and set(at) <= set(where.values())  # every vertex, and nothing that only renames one
    want: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for s, t, k, w in zip(truth.source.tolist(), truth.target.tolist(), truth.slot, truth.weight, strict=True):
        if w != 0 and s not in shut and t not in shut:
            want[place[s], place[t], int(k)].append(float(w))
    got: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for s, t, k, w in zip(graph.source.tolist(), graph.target.tolist(), graph.slot.tolist(), graph.weight, strict=True):
        got[s, t, k].append(float(w))
    assert got.keys() == want.keys()
    for key, weights in want.items():
        np.testing.assert_allclose(sorted(got[key]), sorted(weights), rtol=1e-9, atol=1e-12)
    for s, t, k, e in zip(graph.source, graph.target, graph.slot, graph.edge, strict=True):
        edge = operators.edges[int(e)]
        assert (edge.source, edge.target, edge.slot) == (graph.vertex[s], graph.vertex[t], k)
    for v in used:
        assert graph.gradient[place[v]] == pytest.approx(truth.gradient[v], rel=1e-9, abs=1e-12)
    assert graph.loss == place[truth.loss] and (graph.source < graph.target).all()
    for mode in modes:
        traces = oracle.traces(mode)
        for v in used - {truth.loss} - shut:
            chosen = int(graph.next[mode][place[v]])
            if not traces.live(v):
                assert chosen == -1 or traces.best[v] < -80
                continue
            best = {place[int(truth.target[e])] for e in truth.out[v] if traces.value[e] > traces.best[v] - 1e-9}
            assert chosen >= 0 and graph.source[chosen] == place[v] and int(graph.target[chosen]) in best
