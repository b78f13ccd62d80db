"""From the arrays of a solved step to the rows of `steptrace`."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradtrace.tracer.kernels import tree
from gradtrace.tracer.kernels.passes import mark_read
from gradtrace.tracer.kernels.shares import STRONGEST
from gradtrace.tracer.places import strongest, telling_hop
from gradtrace.tracer.plan import Plan
from gradtrace.tracer.routes import collapse
from gradtrace.tracer.solve import Solved
from gradtrace.tracer.steptrace import (
    ALL_PARAMETERS,
    BatchTrace,
    ComponentShare,
    DominantPath,
    OnDemand,
    ParameterTrace,
    RouteShare,
)
from gradtrace.tracer.structure import ParameterInfo


def summarise(
    solved: Solved, loss: float, batch: str, top_routes: int, scale: float = 1.0, batch_size: int | None = None
) -> BatchTrace:
    """Everything that a step keeps of one batch in one mode.

    Args:
        solved: the traced step.
        loss: value of the loss, unscaled.
        batch: `"training"` or `"probe"`.
        top_routes: routes kept, overall and per parameter; the rest are summed as "other".
        scale: factor that a gradient scaler put on the loss; taken out of gradients and masses.
        batch_size: examples in the batch, where known; tells which example a path goes through.
    """
    plan = solved.captured.plan
    edges = len(plan.graph.edges)
    unscaled = 1.0 / scale

    def by_edge(values: np.ndarray) -> np.ndarray:
        full = np.zeros(edges, values.dtype)
        np.add.at(full, plan.layout.edge_of, values)
        return full

    peak = np.zeros(edges)
    np.maximum.at(peak, plan.layout.edge_of, solved.peak * unscaled)
    flow = by_edge(solved.flow * unscaled)
    mass = by_edge(solved.use_mass * unscaled)
    return BatchTrace(
        mode=solved.mode,
        batch=batch,
        graph=plan.graph,
        loss=loss,
        flow=flow,
        peak=peak,
        traffic=by_edge(solved.use_traffic),
        mass=mass,
        dominant=dominant_edges(plan, mass),
        non_finite=solved.any_non_finite or not math.isfinite(loss),
        parameters=parameter_rows(solved, unscaled, batch_size),
        components=component_rows(solved, flow, unscaled),
        routes=route_rows(solved, unscaled, top_routes),
        consistent=plan.consistent is not False,
    )


def dominant_edges(plan: Plan, mass: np.ndarray) -> np.ndarray:
    """Per edge, whether it carries the most mass out of its source (ties: the first; none where all mass is 0)."""
    sources = plan.layout.edge_sources
    order = np.lexsort((np.arange(mass.size), -mass, sources))
    first = np.ones(mass.size, np.bool_)
    first[1:] = sources[order][1:] != sources[order][:-1]
    dominant = np.zeros(mass.size, np.bool_)
    dominant[order[first]] = True
    return dominant & (mass > 0)


def parameter_rows(solved: Solved, unscaled: float, batch_size: int | None) -> tuple[ParameterTrace, ...]:
    """One row a parameter tensor, strongest path included."""
    layout = solved.captured.plan.layout
    live = solved.parameters[:, STRONGEST] >= 0
    solved.grow(
        (solved.plan.base[solved.captured.plan.learnt] + solved.parameters[:, STRONGEST].astype(np.int64))[live]
    )
    found = iter(zip(solved.parameters.tolist(), solved.non_finite.tolist(), strict=True))
    rows = []
    for info in layout.parameters:
        if info.tensor is None:
            unread = math.prod(info.shape)
            rows.append(ParameterTrace(info.name, info.vertex, info.shape, 0, 0.0, 0, unread, 0, None))
            continue
        (traffic, total, scalar, path), non_finite = next(found)
        size = int(solved.plan.size[info.tensor])
        unread = unread_scalars(solved, info.tensor) if traffic < size else 0
        strongest = None
        if traffic:
            strongest = dominant_path(solved, info, int(scalar), int(path), total, unscaled, batch_size)
        rows.append(
            ParameterTrace(
                info.name, info.vertex, info.shape, int(traffic), total * unscaled, size - int(traffic) - unread, unread,
                non_finite, strongest,
            )
        )  # fmt: skip
    return tuple(rows)


def unread_scalars(solved: Solved, tensor: int) -> int:
    """Scalars of a leaf that no operator read: decided by the structure, unless data chooses what is read."""
    plan = solved.captured.plan
    if tensor not in plan.unread or plan.by_data:
        read = np.zeros(int(solved.plan.size[tensor]), np.uint8)
        mark_read(tensor, solved.plan, read)
        plan.unread[tensor] = int((read == 0).sum())
    return plan.unread[tensor]


def dominant_path(
    solved: Solved, info: ParameterInfo, scalar: int, path: int, total: float, unscaled: float, batch_size: int | None
) -> DominantPath | None:
    """The trace of one scalar of a parameter, or None if it breaks off (underflow on the way)."""
    assert info.tensor is not None  # unread parameters have no traces
    row = solved.tree.row_of(int(solved.plan.base[info.tensor]) + scalar)
    first = solved.tree.columns[row]
    if first[tree.LENGTH] < 0:
        return None
    vertices = path_vertices(solved, path)
    own = float(first[tree.GRADIENT]) * unscaled
    mass = abs(own) if math.isfinite(own) else 0.0
    example, time = place_of(solved, path, vertices, row, batch_size)
    return DominantPath(
        scalar=scalar,
        vertices=vertices,
        index=OnDemand(partial(solved.tree.index, row)),
        weight=OnDemand(partial(solved.tree.weight, row)),
        gradient=OnDemand(partial(solved.tree.gradient, row, unscaled)),
        parameter_gradient=own,
        mass=mass,
        share=mass / (total * unscaled) if total else 0.0,
        margin=float(first[tree.LEAST_MARGIN]),
        # Both in units of the unscaled loss: the product of partials never saw the scaler.
        concentration=math.exp(float(first[tree.LOG_PRODUCT]) - math.log(mass)) if mass else math.inf,
        example=example,
        time=time,
    )


def path_vertices(solved: Solved, path: int) -> tuple[int, ...]:
    """The operators of a path by its number; worked out once as long as the workspace keeps its tables."""
    known = solved.vertices.get(path)
    if known is None:
        parent, element = solved.paths[2], solved.paths[3]
        crossed = []
        at = path
        while at:
            crossed.append(int(element[at]))
            at = parent[at]
        known = solved.vertices[path] = tuple(crossed)
    return known


def place_of(
    solved: Solved, path: int, vertices: tuple[int, ...], row: int, batch_size: int | None
) -> tuple[int | None, int | None]:
    """(example, time step) of a trace: at its first operator that repeats, else by the batch size alone."""
    key = (path, batch_size)
    if key not in solved.places:
        solved.places[key] = telling_hop(solved.captured.plan.graph, vertices, batch_size)
    hop, inner, time = solved.places[key]
    if hop is None:
        return None, time
    for _ in range(hop + 1):
        row = int(solved.tree.columns[row, tree.AFTER])
    scalar = int(solved.tree.columns[row, tree.ID])
    tensor = int(np.searchsorted(solved.plan.base, scalar, side="right")) - 1
    return (scalar - int(solved.plan.base[tensor])) // inner, time


def component_rows(solved: Solved, edge_flow: np.ndarray, unscaled: float) -> tuple[ComponentShare, ...]:
    """One row a component, descendants included, in the graph's order; `edge_flow` is unscaled already."""
    plan = solved.captured.plan
    found = {name: values.tolist() for name, values in solved.components.items()}
    flow = np.zeros(len(plan.graph.components))
    np.add.at(flow, plan.ancestry.entered, edge_flow[plan.ancestry.entered_edge])
    total_mass, total_traffic = float(solved.visits[:, 3].sum()), int(solved.visits[:, 2].sum())
    return tuple(
        ComponentShare(
            component=component.path,
            share=min(mass / total_mass, 1.0) if total_mass else 0.0,
            mass=mass * unscaled,
            traffic=traffic,
            visits=entries / total_traffic if total_traffic else 0.0,
            own=own * unscaled,
            foreign=(mass - own) * unscaled,
            contested=contested,
            won=won,
            flow=entering,
            **_begun(solved, at, unscaled),
        )
        for at, (component, mass, traffic, entries, own, contested, won, entering) in enumerate(
            zip(
                plan.graph.components, found["mass"], found["traffic"], found["entries"], found["own"], found["contested"],
                found["won"], flow.tolist(), strict=True,
            )
        )
    )  # fmt: skip


def _begun(solved: Solved, component: int, unscaled: float) -> dict[str, Any]:
    """Where the traces that cross a component begin: its strongest time steps and examples."""
    if solved.begun is None:
        return {}
    times, time_mass = strongest(solved.begun.times[component] * unscaled)
    examples, example_mass = strongest(solved.begun.examples[component] * unscaled)
    return {"times": times, "time_mass": time_mass, "examples": examples, "example_mass": example_mass}


def route_rows(solved: Solved, unscaled: float, top: int) -> tuple[RouteShare, ...]:
    """Top routes by mass, overall and per parameter; what lies beyond is one "other" row."""
    layout = solved.captured.plan.layout
    # By identity: routes are interned, and some are long.
    whole: dict[int, _Total] = {}
    parts: dict[int, dict[int, _Total]] = defaultdict(dict)
    for group, sequence, traffic, mass in solved.visits.tolist():
        route = route_of(solved, int(sequence))
        for totals in (whole, parts[layout.groups[int(group)][0]]):
            entry = totals.get(id(route))
            if entry is None:
                entry = totals[id(route)] = _Total(route)
            entry.traffic += traffic
            entry.mass += mass
    rows = _ranked(ALL_PARAMETERS, list(whole.values()), top, unscaled) if whole else []
    for at, info in enumerate(layout.parameters):
        if at in parts:
            rows += _ranked(info.name, list(parts[at].values()), top, unscaled)
    return tuple(rows)


@dataclass(slots=True)
class _Total:
    route: tuple[str, ...]
    traffic: float = 0.0
    mass: float = 0.0


def route_of(solved: Solved, sequence: int) -> tuple[str, ...]:
    """The route of a sequence by its number; worked out once as long as the workspace keeps its tables."""
    known = solved.routes.get(sequence)
    if known is None:
        paths = solved.captured.plan.layout.paths
        parent, element = solved.sequences[2], solved.sequences[3]
        crossed = []
        at = sequence
        while at:
            if element[at]:
                crossed.append(paths[element[at] - 1])
            at = parent[at]
        route = collapse(crossed)
        known = solved.routes[sequence] = solved.interned.setdefault(route, route)
    return known


def _ranked(parameter: str, totals: list[_Total], top: int, unscaled: float) -> list[RouteShare]:
    whole = sum(t.mass for t in totals)
    if len(totals) > 1:
        totals.sort(key=lambda t: (-t.mass, -t.traffic, t.route))
    rows = [
        RouteShare(parameter, t.route, int(t.traffic), t.mass * unscaled, t.mass / whole if whole else 0.0, rank)
        for rank, t in enumerate(totals[:top], 1)
    ]
    if len(totals) > top:
        traffic = int(sum(t.traffic for t in totals[top:]))
        mass = sum(t.mass for t in totals[top:])
        rows.append(RouteShare(parameter, None, traffic, mass * unscaled, mass / whole if whole else 0.0, top + 1))
    return rows
