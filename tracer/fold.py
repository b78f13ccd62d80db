"""Folding: the repetitions of a recurrence become one vertex each, so that a long sequence takes no more room than a short one.

Operators of the same component, kind and place in their component's call are one vertex over all repetitions; the edges between
them fall together alike. What is summed over scalars stays summed: `flow`, `traffic` and `mass` of a folded edge are the sums
over its exact edges (a trace that crosses it three times counts three times), `peak` is the greatest. Rows of parameters,
components and routes stay as they are.

Of a path, a block of operators that repeats (found as in routes: the shortest first, left to right, to a fixed point) is kept
twice: its first and its last repetition, with the scalars, weights and gradients there. So two stands for two or more, and a
folded path takes the route of the exact one. Operators of a folded graph have no shape: that would tell the sequence's length.

Where dominant edges would run in a circle, which no exact graph has, the circle's heaviest way out is dominant at the vertex
that it leaves, so that dominant edges lead to the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from gradtrace.tracer.dominance import dominant_ways
from gradtrace.tracer.errors import TraceError
from gradtrace.tracer.graph import Edge, Graph, Vertex
from gradtrace.tracer.routes import first_and_last
from gradtrace.tracer.scalargraph import ScalarTrace
from gradtrace.tracer.spreadtrace import SpreadTrace
from gradtrace.tracer.steptrace import BatchTrace, DominantPath, OnDemand, StepTrace

When = Literal["auto", "always", "never"]
FOLD_EDGES = 2000
"""Edges from which on a graph is folded, unless told."""
_KEPT = 32
_PATHS = 10_000


@dataclass(frozen=True, eq=False)
class Folding:
    """How one graph folds.

    Attributes:
        graph: the folded graph.
        vertex: exact `Vertex.idx` → folded one.
        edge: int64, exact `Edge.idx` → folded one.
    """

    graph: Graph
    vertex: tuple[int, ...]
    edge: np.ndarray
    _paths: dict[tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def trace(self, trace: BatchTrace) -> BatchTrace:
        """The traces of one batch on the folded graph."""
        edges = self.graph.edges

        def summed(values: np.ndarray) -> np.ndarray:
            total = np.zeros(len(edges), values.dtype)
            np.add.at(total, self.edge, values)
            return total

        peak = np.zeros(len(edges))
        np.maximum.at(peak, self.edge, trace.peak)
        mass = summed(trace.mass)
        return replace(
            trace,
            graph=self.graph,
            flow=summed(trace.flow),
            peak=peak,
            traffic=summed(trace.traffic),
            mass=mass,
            dominant=dominant_ways([e.source for e in edges], [e.target for e in edges], mass),
            parameters=tuple(
                replace(
                    p, vertex=self.vertex[p.vertex], strongest=None if p.strongest is None else self._path(p.strongest)
                )
                for p in trace.parameters
            ),
        )

    def spread(self, spread: SpreadTrace) -> SpreadTrace:
        """The sums over all paths of one batch; only the numbers of vertices change."""
        parameters = tuple(replace(p, vertex=self.vertex[p.vertex]) for p in spread.parameters)
        return replace(spread, graph=self.graph, parameters=parameters)

    def scalars(self, trace: ScalarTrace) -> ScalarTrace:
        """The scalar graph of one batch, all of it; only the numbers of operators and of their edges change."""
        exact = trace.scalars
        folded = replace(exact, vertex=np.array(self.vertex, np.int64)[exact.vertex], edge=self.edge[exact.edge])
        return replace(trace, graph=self.graph, scalars=folded)

    def _path(self, path: DominantPath) -> DominantPath:
        if path.vertices not in self._paths:
            if len(self._paths) >= _PATHS:
                self._paths.clear()
            folded = [self.vertex[v] for v in path.vertices]
            hops = first_and_last([str(v) for v in folded])
            self._paths[path.vertices] = hops, tuple(folded[hop] for hop in hops)
        hops, vertices = self._paths[path.vertices]
        return replace(
            path,
            vertices=vertices,
            index=OnDemand(partial(_at, path.index, hops)),
            weight=OnDemand(partial(_at, path.weight, hops)),
            gradient=OnDemand(partial(_at, path.gradient, hops)),
        )


class Folder:
    """Folds steps, as many as come.

    Args:
        when: `"auto"` folds graphs that have more than `edges` edges, `"always"` and `"never"` as they say. Graphs in which
            nothing repeats stay as they are.
        edges: see above.

    Raises:
        TraceError: it is told something else.
    """

    def __init__(self, when: When = "auto", edges: int = FOLD_EDGES) -> None:
        if when not in get_args(When):
            raise TraceError(f"Graphs are folded {', '.join(map(repr, get_args(When)))}, not {when!r}.")
        if edges < 0:
            raise TraceError(f"A graph is folded that has more edges than a number of 0 or more, not {edges}.")
        self._when, self._edges = when, edges
        self._known: dict[str, Folding | None] = {}

    def step(self, step: StepTrace) -> StepTrace:
        """The step with each of its graphs folded or not, as is due; the step itself if none is."""
        traces = tuple(t if (f := self._due(t.graph)) is None else f.trace(t) for t in step.traces)
        spreads = tuple(t if (f := self._due(t.graph)) is None else f.spread(t) for t in step.spreads)
        scalars = tuple(t if (f := self._due(t.graph)) is None else f.scalars(t) for t in step.scalars)
        made, given = (*traces, *spreads, *scalars), (*step.traces, *step.spreads, *step.scalars)
        if all(a is b for a, b in zip(made, given, strict=True)):
            return step
        return replace(step, traces=traces, spreads=spreads, scalars=scalars)

    def _due(self, graph: Graph) -> Folding | None:
        """How a graph is to be folded, or None where it stays as it is."""
        if self._when == "never" or graph.folded or (self._when == "auto" and len(graph.edges) <= self._edges):
            return None
        key = graph.fingerprint
        if key not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = fold(graph)
        return self._known[key]


def fold(graph: Graph) -> Folding | None:
    """How a graph folds, or None where no operator repeats."""
    keys = _vertex_keys(graph)
    place = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    if len(place) == len(keys):
        return None
    vertex = tuple(place[key] for key in keys)
    first = [vertex.index(at) for at in range(len(place))]
    pairs = [(vertex[e.target], e.slot, vertex[e.source]) for e in graph.edges]
    edges = {pair: at for at, pair in enumerate(sorted(set(pairs)))}
    folded = Graph(
        graph.name,
        _folded_vertices([graph.vertices[at] for at in first]),
        tuple(Edge(at, source, target, slot) for (target, slot, source), at in edges.items()),
        graph.components,
        folded=True,
    )
    return Folding(folded, vertex, np.array([edges[pair] for pair in pairs], np.int64))


def _vertex_keys(graph: Graph) -> list[Hashable]:
    """Per vertex, what it has in common with the vertices that it falls together with."""
    keys: list[Hashable] = []
    seen: Counter[Hashable] = Counter()
    for v in graph.vertices:
        if v.kind == "operator" and v.time is not None:
            kind = (v.component, v.op)
            keys.append((*kind, seen[kind, v.time]))
            seen[kind, v.time] += 1
        else:
            keys.append(v.idx)
    readers: dict[int, list[Edge]] = {}
    for edge in graph.edges:
        if graph.vertices[edge.source].kind == "constant":
            readers.setdefault(edge.source, []).append(edge)
    for source, found in readers.items():
        if len(found) == 1:  # of the operators that fall together, the same operand
            keys[source] = ("constant", keys[found[0].target], found[0].slot)
    return keys


def _folded_vertices(firsts: Sequence[Vertex]) -> tuple[Vertex, ...]:
    """One vertex each; names are numbered anew, so that they do not tell how often what came before was repeated."""
    counts: Counter[str] = Counter()
    made = []
    for at, v in enumerate(firsts):
        if v.kind in ("operator", "loss"):
            label = f"{v.component or '-'}/{v.op}"
            name = f"{label}#{counts[label]}" if counts[label] else label
            counts[label] += 1
            made.append(Vertex(at, v.kind, v.op, name, v.component, ()))
        elif v.kind == "constant" and v.name.removeprefix("constant").isdigit():
            made.append(replace(v, idx=at, name=f"constant{counts['constant']}"))
            counts["constant"] += 1
        else:
            made.append(replace(v, idx=at))
    return tuple(made)


def _at(values: Sequence[Any], hops: Sequence[int]) -> tuple[Any, ...]:
    """The values at these hops; none where none are kept."""
    return tuple(values[hop] for hop in hops) if len(values) else ()
