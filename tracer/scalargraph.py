"""The scalar graph of one traced batch as plain data: what sinks are given of it.

The words are those of `docs/semantics.md`. `scalars` makes it; this module needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradtrace.tracer.graph import Graph

GRANULARITIES = ("operator", "scalar")
GRAPH_BUDGET = 200_000
"""Scalar vertices and edges together that a scalar graph may have, unless told."""
POINTERS = ("greedy", "maxprod")
"""Modes that choose one edge out of every vertex."""


@dataclass(frozen=True, eq=False)
class ScalarGraph:
    """Vertices are scalars of operators' outputs, and of parameters that some operator read, numbered so that an edge leads
    to a greater number.

    Attributes:
        vertex: int64 [vertices], `Vertex.idx` of the parameter or operator in the trace's graph.
        output: int64 [vertices], number of the operator's output.
        index: int64 [vertices], flat index in that output, or in the parameter.
        component: per vertex, path of its innermost component, or None.
        gradient: float64 [vertices], gradient of the loss, unscaled.
        source, target: int64 [edges], positions among the vertices.
        slot: int64 [edges], operand of the operator that made the target.
        edge: int64 [edges], `Edge.idx` of the operator edge.
        weight: float64 [edges], partial of the target by the source; edges whose weight is 0 are left out.
        next: mode → int64 [vertices], the edge that the trace takes, or -1 (dead, unread, or the loss).
        loss: position of the loss.
    """

    vertex: np.ndarray
    output: np.ndarray
    index: np.ndarray
    component: tuple[str | None, ...]
    gradient: np.ndarray
    source: np.ndarray
    target: np.ndarray
    slot: np.ndarray
    edge: np.ndarray
    weight: np.ndarray
    next: dict[str, np.ndarray]
    loss: int

    @property
    def size(self) -> int:
        """Vertices and edges together."""
        return len(self.vertex) + len(self.weight)

    @property
    def flow(self) -> np.ndarray:
        """float64 [edges], |w·g_u|: the candidate that the edge is in greedy mode."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.abs(self.weight * self.gradient[self.target])


@dataclass(frozen=True, slots=True, eq=False)
class ScalarTrace:
    """The scalar graph of one batch of a step.

    Attributes:
        batch: `"training"` or `"probe"`.
        graph: the operator graph that `ScalarGraph.vertex` and `.edge` refer to: that of the batch's other traces.
        scalars: the scalar graph, with the pointers of the modes that follow paths.
    """

    batch: str
    graph: Graph
    scalars: ScalarGraph
