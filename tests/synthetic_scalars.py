"""Random but consistent scalar graphs of the graphs of `synthetic`: gradients are what the weights make them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.scalargraph import ScalarGraph, ScalarTrace

_WIDTH = 2


def scalar_trace(
    graph: Graph, batch: str, modes: Sequence[str], rng: np.random.Generator, *, broken: bool = False
) -> ScalarTrace:
    """The scalar graph of one batch: of each operator a few scalars, of each parameter that is read all; `broken` puts an
    infinite and a NaN weight into it."""
    read = {e.source for e in graph.edges}
    vertex: list[int] = []
    index: list[int] = []
    own: dict[int, range] = {}
    for v in graph.vertices:
        if v.kind == "constant" or (v.kind == "parameter" and v.idx not in read):
            continue
        count = {"parameter": math.prod(v.shape), "operator": _WIDTH, "loss": 1}[v.kind]
        own[v.idx] = range(len(vertex), len(vertex) + count)
        vertex += [v.idx] * count
        index += range(count)
    rows: list[tuple[int, int, int, int, float]] = []
    for e in graph.edges:
        for target in own[e.target] if e.source in own else ():
            sources = rng.choice(own[e.source], size=min(len(own[e.source]), 3), replace=True)
            rows += [(int(s), target, e.slot, e.idx, float(rng.normal())) for s in sources]
    if broken:
        for at, value in ((0, math.inf), (len(rows) // 2, math.nan)):
            rows[at] = (*rows[at][:4], value)
    rows.sort(key=lambda row: row[:3])  # several edges of equal ends and slot may stand side by side
    loss = len(vertex) - 1
    names = ("source", "target", "slot", "edge")
    whole = {name: np.array([row[n] for row in rows], np.int64) for n, name in enumerate(names)}
    weight = np.array([row[4] for row in rows])
    gradient = _gradients(rows, len(vertex), loss)
    scalars = ScalarGraph(
        vertex=np.array(vertex, np.int64),
        output=np.zeros(len(vertex), np.int64),
        index=np.array(index, np.int64),
        component=tuple(graph.vertices[v].component for v in vertex),
        gradient=gradient,
        weight=weight,
        next={mode: _next(mode, rows, gradient, loss) for mode in modes},
        loss=loss,
        **whole,
    )
    return ScalarTrace(batch, graph, scalars)


def _gradients(rows: list[tuple[int, int, int, int, float]], count: int, loss: int) -> np.ndarray:
    gradient = np.zeros(count)
    gradient[loss] = 1.0
    for source, target, _, _, weight in reversed(rows):  # sorted by source, and an edge leads to a greater number
        gradient[source] += weight * gradient[target]
    return gradient


def _next(mode: str, rows: list[tuple[int, int, int, int, float]], gradient: np.ndarray, loss: int) -> np.ndarray:
    best = np.zeros(len(gradient))
    reach = np.zeros(len(gradient))
    reach[loss] = 1.0
    chosen = np.full(len(gradient), -1, np.int64)
    ends: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        ends.setdefault(row[0], []).append(at)
    for source in sorted(ends, reverse=True):
        for at in ends[source]:
            _, target, _, _, weight = rows[at]
            value = abs(weight) * (abs(gradient[target]) if mode == "greedy" else reach[target])
            if math.isfinite(value) and value > best[source]:
                best[source], chosen[source] = value, at
        if mode == "maxprod":
            reach[source] = best[source]
    return chosen
