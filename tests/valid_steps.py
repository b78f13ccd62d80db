"""What makes a step valid: what every sink and every question may rely on."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.steptrace import (
    ALL_PARAMETERS,
    BatchTrace,
    DominantPath,
    StepTrace,
)


def check(step: StepTrace) -> None:
    """Assert that `step` is valid: what every sink and every question may rely on."""
    assert step.traces and len({(t.mode, t.batch) for t in step.traces}) == len(step.traces)
    for trace in step.traces:
        graph, count = trace.graph, len(trace.graph.edges)
        for array in (trace.flow, trace.peak, trace.traffic, trace.mass, trace.dominant):
            assert array.shape == (count,)
        _check_conserved(trace)
        total = math.fsum(p.mass for p in trace.parameters)
        for p in trace.parameters:
            assert graph.vertices[p.vertex].name == p.parameter
            assert p.traffic + p.dead + p.unread == math.prod(p.shape)
            if p.strongest is None:
                assert p.traffic == 0
            else:
                _check_walk(graph, p.vertex, p.strongest)
        for c in trace.components:
            assert 0 <= c.share <= 1 + 1e-12 and c.won <= c.contested
            assert math.isclose(c.own + c.foreign, c.mass, abs_tol=1e-9)
            assert math.isclose(c.share * total, c.mass, abs_tol=1e-9)
        for name in {r.parameter for r in trace.routes}:
            rows = [r for r in trace.routes if r.parameter == name]
            assert [r.rank for r in rows] == list(range(1, len(rows) + 1))
            assert all(r.route is not None for r in rows[:-1])
            masses = [p.mass for p in trace.parameters if name in (ALL_PARAMETERS, p.parameter)]
            assert math.isclose(math.fsum(r.mass for r in rows), math.fsum(masses), abs_tol=1e-9)


def _check_conserved(trace: BatchTrace) -> None:
    graph = trace.graph
    balance = np.zeros(len(graph.vertices), np.int64)
    for p in trace.parameters:
        balance[p.vertex] += p.traffic
    for e in graph.edges:
        balance[e.source] -= trace.traffic[e.idx]
        balance[e.target] += trace.traffic[e.idx]
    ends = balance[graph.loss.idx]
    balance[graph.loss.idx] = 0
    assert not balance.any() and ends == sum(p.traffic for p in trace.parameters)
    for v in graph.vertices:
        out = [e.idx for e in graph.edges if e.source == v.idx]
        chosen = [i for i in out if trace.dominant[i]]
        assert chosen == ([max(out, key=lambda i: trace.mass[i])] if any(trace.mass[i] > 0 for i in out) else [])


def _check_walk(graph: Graph, start: int, path: DominantPath) -> None:
    ends = {(e.source, e.target) for e in graph.edges}
    line = (start, *path.vertices)
    assert all(pair in ends for pair in pairwise(line)) and line[-1] == graph.loss.idx
    assert len(path.vertices) == len(path.index) == len(path.weight) == len(path.gradient)
    assert path.margin >= 1 and 0 <= path.share <= 1
