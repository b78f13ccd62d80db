"""Which time step and which example traces go through: of one path, and summed up over the traces that cross a component."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradtrace.tracer.graph import Graph, Vertex
from gradtrace.tracer.kernels.places import places
from gradtrace.tracer.kernels.state import ENTRIES, USED, PlanArrays, StepArrays, Table
from gradtrace.tracer.plan import Plan
from gradtrace.tracer.structure import Ancestry
from gradtrace.tracer.workspace import Known, Workspace

MOST = 8
"""Time steps, and examples, kept of each component: those with most mass."""


@dataclass(frozen=True, slots=True)
class Places:
    """Mass of the traces that cross each component, by the time step and by the example in which they begin.

    Attributes:
        times: float64 [components, time steps]; examples: float64 [components, batch]. Traces without one are left out.
    """

    times: np.ndarray
    examples: np.ndarray


def told_by(vertex: Vertex, batch_size: int | None) -> int:
    """Whether an operator's output tells the example of a trace: 2 as one that repeats, 1 by its size alone, 0 not at all."""
    rows = vertex.shape[0] if len(vertex.shape) > 1 else 0
    if vertex.time is not None:
        return 2 if rows > 1 and (batch_size is None or rows == batch_size) else 0
    return 1 if rows and rows == batch_size else 0


def telling_hop(graph: Graph, vertices: tuple[int, ...], batch_size: int | None) -> tuple[int | None, int, int | None]:
    """(hop at which a path tells its example or None, scalars of one example there, time step) of a path."""
    by_size: int | None = None
    for hop, at in enumerate(vertices):
        vertex = graph.vertices[at]
        told = told_by(vertex, batch_size)
        if vertex.time is not None:
            return (hop if told else None), math.prod(vertex.shape[1:]), vertex.time
        if by_size is None and told:
            by_size = hop
    return by_size, math.prod(graph.vertices[vertices[by_size]].shape[1:]) if by_size is not None else 1, None


def component_places(
    plan: Plan, arrays: PlanArrays, state: StepArrays, work: Workspace, visits: np.ndarray, batch_size: int | None
) -> Places | None:
    """Sum up the traces of a step, or None where no operator repeats and none is known to have the examples as its rows."""
    vertices = plan.graph.vertices
    key = batch_size if batch_size is not None else -1
    if key not in plan.telling:
        of = [vertices[v] for v in plan.vertex_of.tolist()]
        plan.telling[key] = (
            np.array([-1 if v.time is None else v.time for v in of], np.int32),
            np.array([max(math.prod(v.shape[1:]), 1) for v in of], np.int64),
            np.array([told_by(v, batch_size) for v in of], np.int8),
            max([v.time for v in of if v.time is not None], default=-1) + 1,
            max([v.shape[0] for v in of if told_by(v, batch_size)], default=0),
        )
    time_of, inner_of, told, steps, batch = plan.telling[key]
    if not steps and not batch:
        return None
    numbers = np.unique(visits[:, 1].astype(np.int64))
    compact = np.zeros(work.known.sequences[2].shape[0], np.int32)
    compact[numbers] = np.arange(numbers.size)
    by_time, by_example = np.zeros((max(numbers.size, 1), steps + 1)), np.zeros((max(numbers.size, 1), batch + 1))
    scratch = np.empty((2, int(state.counts[USED])), np.int32)
    places(
        arrays, state, work.entry_slot, work.entry_mass, int(state.counts[ENTRIES]), work.into, time_of, inner_of, told,
        compact, scratch[0], scratch[1], by_time, by_example,
    )  # fmt: skip
    crossed = _crossed(plan, work.known, numbers)
    return Places(crossed.T @ by_time[: numbers.size, 1:], crossed.T @ by_example[: numbers.size, 1:])


def _crossed(plan: Plan, known: Known, numbers: np.ndarray) -> np.ndarray:
    """float64 [sequences, components]: 1 where a sequence crosses a component."""
    found = np.zeros((numbers.size, len(plan.graph.components)))
    for row, number in enumerate(numbers.tolist()):
        crossed = known.crossed.get(number)
        if crossed is None:
            crossed = known.crossed[number] = _components_of(number, plan.ancestry, known.sequences)
        found[row, crossed] = 1.0
    return found


def _components_of(number: int, inside: Ancestry, sequences: Table) -> np.ndarray:
    parent, element = sequences[2], sequences[3]
    elements = set()
    while number:
        elements.add(int(element[number]))
        number = int(parent[number])
    return np.concatenate(
        [inside.listed[inside.start[e] : inside.start[e + 1]] for e in elements] or [np.zeros(0, np.int64)]
    )


def strongest(masses: np.ndarray) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The places with most mass (ties: the first), at most MOST, none without mass; and their masses."""
    order = np.argsort(-masses, kind="stable")[:MOST]
    kept = [int(k) for k in order if masses[k] > 0]
    return tuple(kept), tuple(float(masses[k]) for k in kept)
