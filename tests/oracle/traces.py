"""Candidates, winners and paths on the scalar graph, in both modes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from tests.oracle.scalar_graph import ScalarGraph

MODES = ("greedy", "maxprod")


@dataclass(eq=False)
class Traces:
    """One mode's candidates. Values are kept as logarithms, so that nothing underflows.

    Attributes:
        value: per edge, log of |w·g_u| (greedy) or of |w|·t_u (maxprod); -inf where it is 0 or not finite.
        best: per vertex, the greatest value of its edges; -inf for dead and unread vertices.
    """

    graph: ScalarGraph
    mode: str

    @cached_property
    def _solved(self) -> tuple[np.ndarray, np.ndarray]:
        g = self.graph
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log_w = _log(g.weight)
            if self.mode == "greedy":
                # judged as the product of the floats: a product that underflows to 0 is no candidate
                value = _log(g.weight * g.gradient[g.target])
            else:
                value = np.full(len(log_w), -math.inf)
        best = np.full(g.size, -math.inf)
        best[g.loss] = 0.0
        if self.mode == "greedy":
            np.maximum.at(best, g.source, value)
            return value, best
        # users have greater numbers than what they read, so going down visits users first
        for v in g.vertices[::-1]:
            mine = g.out[v]
            if len(mine):
                value[mine] = log_w[mine] + best[g.target[mine]]
                best[v] = max(best[v], value[mine].max())
        return value, best

    @property
    def value(self) -> np.ndarray:
        """Log of every edge's candidate."""
        return self._solved[0]

    @property
    def best(self) -> np.ndarray:
        """Log of every vertex's best candidate."""
        return self._solved[1]

    def candidates(self, vertex: int) -> np.ndarray:
        """Edges out of `vertex` whose candidate is not zero, the greatest first."""
        mine = self.graph.out[vertex]
        mine = mine[self.value[mine] > -math.inf]
        return mine[np.argsort(-self.value[mine], kind="stable")]

    def live(self, vertex: int) -> bool:
        """Whether a trace leaves the vertex (the loss counts as live)."""
        return vertex == self.graph.loss or self.best[vertex] > -math.inf

    def margin(self, vertex: int) -> float:
        """Winner over runner-up at a vertex; inf where there is only one candidate."""
        c = self.candidates(vertex)
        return math.exp(min(700.0, self.value[c[0]] - self.value[c[1]])) if len(c) > 1 else math.inf

    def path(self, vertex: int) -> list[int]:
        """Edges of the trace from `vertex` to the loss; empty where it is dead (or is the loss)."""
        edges: list[int] = []
        while vertex != self.graph.loss:
            c = self.candidates(vertex)
            if not len(c):
                assert not edges, "a live vertex led to a dead one"
                return []
            edges.append(int(c[0]))
            vertex = int(self.graph.target[c[0]])
        return edges


def _log(x: np.ndarray) -> np.ndarray:
    finite = np.isfinite(x)
    return np.where(finite, np.log(np.abs(np.where(finite, x, 1.0))), -math.inf)


def invariant_error(graph: ScalarGraph) -> float:
    """Greatest relative violation of Σ_u w(u,v)·g_u = g_v over all vertices but the loss."""
    total = np.zeros(graph.size)
    scale = np.zeros(graph.size)
    product = graph.weight * graph.gradient[graph.target]
    np.add.at(total, graph.source, product)
    np.add.at(scale, graph.source, np.abs(product))
    v = graph.vertices[graph.vertices != graph.loss]
    if not len(v):
        return 0.0
    gap = np.abs(total[v] - graph.gradient[v])
    return float(np.max(gap / np.maximum(np.maximum(scale[v], np.abs(graph.gradient[v])), 1e-300)))


def all_paths(graph: ScalarGraph, vertex: int, limit: int = 200_000) -> list[list[int]]:
    """Every path from `vertex` to the loss, as lists of edges (brute force, for tiny graphs)."""
    done: list[list[int]] = []
    stack: list[tuple[int, list[int]]] = [(vertex, [])]
    while stack:
        at, edges = stack.pop()
        if at == graph.loss:
            done.append(edges)
            if len(done) > limit:
                raise ValueError(f"more than {limit} paths")
            continue
        stack.extend((int(graph.target[e]), [*edges, int(e)]) for e in graph.out[at])
    return done


def is_path(graph: ScalarGraph, edges: list[int]) -> bool:
    """Whether each edge starts where the last one ended."""
    return all(graph.target[a] == graph.source[b] for a, b in pairwise(edges))
