"""From the arrays of a solved step to the rows of `steptrace`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from gradtrace.tracer.kernels import tree
from gradtrace.tracer.kernels.passes import mark_read
from gradtrace.tracer.kernels.state import LIVE, STRONGEST
from gradtrace.tracer.path_tree import PathTree
from gradtrace.tracer.places import Places, strongest, telling_hop
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
from gradtrace.tracer.workspace import Known


@dataclass(frozen=True, eq=False)
class Findings:
    """What the rows of a step are spelt from, apart from its tensors: rows may be asked for when these are long gone.

    Attributes:
        plan: the structure.
        tree: traces of the strongest scalars.
        parameters, non_finite, visits, totals (of components), known, begun: as in `Solved`.
        unread: per learnt tensor, scalars that no operator read.
        flow: float64 [edges], unscaled.
        unscaled: factor that takes a gradient scaler's out.
    """

    plan: Plan
    tree: PathTree
    parameters: np.ndarray
    non_finite: np.ndarray
    unread: np.ndarray
    visits: np.ndarray
    totals: dict[str, np.ndarray]
    known: Known
    begun: Places | None
    flow: np.ndarray
    unscaled: float
    batch_size: int | None
    top_routes: int


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
    starts = solved.parameters[:, STRONGEST].astype(np.int64)
    solved.grow((solved.plan.base[plan.learnt] + starts)[starts >= 0])
    found = Findings(
        plan, solved.tree, solved.parameters, solved.non_finite, unread_scalars(solved), solved.visits, solved.components,
        solved.known, solved.begun, flow, unscaled, batch_size, top_routes,
    )  # fmt: skip
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
        parameters=OnDemand(partial(parameter_rows, found)),
        components=OnDemand(partial(component_rows, found)),
        routes=OnDemand(partial(route_rows, found)),
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


def unread_scalars(solved: Solved) -> np.ndarray:
    """Scalars of each learnt leaf that no operator read: decided by the structure, unless data chooses what is read."""
    plan = solved.captured.plan
    unread = np.zeros(plan.learnt.size, np.int64)
    for at in np.flatnonzero(solved.parameters[:, LIVE] < solved.plan.size[plan.learnt]).tolist():
        tensor = int(plan.learnt[at])
        if tensor not in plan.unread or plan.by_data:
            read = np.zeros(int(solved.plan.size[tensor]), np.uint8)
            mark_read(tensor, solved.plan, read)
            plan.unread[tensor] = int((read == 0).sum())
        unread[at] = plan.unread[tensor]
    return unread


def parameter_rows(found: Findings) -> tuple[ParameterTrace, ...]:
    """One row a parameter tensor, strongest path included."""
    numbers = iter(zip(found.parameters.tolist(), found.non_finite.tolist(), found.unread.tolist(), strict=True))
    rows = []
    for info in found.plan.layout.parameters:
        size = math.prod(info.shape)
        if info.tensor is None:
            rows.append(ParameterTrace(info.name, info.vertex, info.shape, 0, 0.0, 0, size, 0, None))
            continue
        (traffic, total, scalar, path), non_finite, unread = next(numbers)
        leading = dominant_path(found, info.tensor, int(scalar), int(path), total) if traffic else None
        rows.append(
            ParameterTrace(
                info.name, info.vertex, info.shape, int(traffic), total * found.unscaled, size - int(traffic) - unread,
                unread, non_finite, leading,
            )
        )  # fmt: skip
    return tuple(rows)


def dominant_path(found: Findings, tensor: int, scalar: int, path: int, total: float) -> DominantPath | None:
    """The trace of one scalar of a parameter, or None if it breaks off (underflow on the way)."""
    row = found.tree.row_of(int(found.plan.arrays.base[tensor]) + scalar)
    first = found.tree.columns[row]
    if first[tree.LENGTH] < 0:
        return None
    vertices = path_vertices(found.known, path)
    own = float(first[tree.GRADIENT]) * found.unscaled
    mass = abs(own) if math.isfinite(own) else 0.0
    example, time = place_of(found, path, vertices, row)
    hops = found.tree.hops(row, found.unscaled)
    return DominantPath(
        scalar=scalar,
        vertices=vertices,
        index=OnDemand(hops.index),
        weight=OnDemand(hops.weight),
        gradient=OnDemand(hops.gradient),
        parameter_gradient=own,
        mass=mass,
        share=mass / (total * found.unscaled) if total else 0.0,
        margin=float(first[tree.LEAST_MARGIN]),
        # Both in units of the unscaled loss: the product of partials never saw the scaler.
        concentration=math.exp(float(first[tree.LOG_PRODUCT]) - math.log(mass)) if mass else math.inf,
        example=example,
        time=time,
    )


def path_vertices(known: Known, path: int) -> tuple[int, ...]:
    """The operators of a path by its number; worked out once as long as the workspace keeps its tables."""
    found = known.vertices.get(path)
    if found is None:
        parent, element = known.paths[2], known.paths[3]
        crossed = []
        at = path
        while at:
            crossed.append(int(element[at]))
            at = parent[at]
        found = known.vertices[path] = tuple(crossed)
    return found


def place_of(found: Findings, path: int, vertices: tuple[int, ...], row: int) -> tuple[int | None, int | None]:
    """(example, time step) of a trace: at its first operator that repeats, else by the batch size alone."""
    key = (path, found.batch_size)
    place = found.known.places.get(key)
    if place is None:
        place = found.known.places[key] = telling_hop(found.plan.graph, vertices, found.batch_size)
    hop, inner, time = place
    if hop is None:
        return None, time
    columns = found.tree.columns
    for _ in range(hop + 1):
        row = int(columns[row, tree.AFTER])
    return int(columns[row, tree.INDEX]) // inner, time


def component_rows(found: Findings) -> tuple[ComponentShare, ...]:
    """One row a component, descendants included, in the graph's order."""
    plan, unscaled = found.plan, found.unscaled
    totals = {name: values.tolist() for name, values in found.totals.items()}
    flow = np.zeros(len(plan.graph.components))
    np.add.at(flow, plan.ancestry.entered, found.flow[plan.ancestry.entered_edge])
    total_mass, total_traffic = float(found.visits[:, 3].sum()), int(found.visits[:, 2].sum())
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
            **_begun(found, at),
        )
        for at, (component, mass, traffic, entries, own, contested, won, entering) in enumerate(
            zip(
                plan.graph.components, totals["mass"], totals["traffic"], totals["entries"], totals["own"],
                totals["contested"], totals["won"], flow.tolist(), strict=True,
            )
        )
    )  # fmt: skip


def _begun(found: Findings, component: int) -> dict[str, Any]:
    """Where the traces that cross a component begin: its strongest time steps and examples."""
    if found.begun is None:
        return {}
    times, time_mass = strongest(found.begun.times[component] * found.unscaled)
    examples, example_mass = strongest(found.begun.examples[component] * found.unscaled)
    return {"times": times, "time_mass": time_mass, "examples": examples, "example_mass": example_mass}


def route_rows(found: Findings) -> tuple[RouteShare, ...]:
    """Top routes by mass, overall and per parameter; what lies beyond is one "other" row."""
    if not len(found.visits):
        return ()
    layout, top, unscaled = found.plan.layout, found.top_routes, found.unscaled
    group, sequence = (found.visits[:, at].astype(np.int64) for at in (0, 1))
    numbers, at = np.unique(sequence, return_inverse=True)
    places: dict[int, int] = {}  # by identity: routes are interned, and some are long
    routes = [route_of(found.known, number, layout.paths) for number in numbers.tolist()]
    route = np.array([places.setdefault(id(r), len(places)) for r in routes])[at]
    distinct = list({id(r): r for r in routes}.values())
    rows = _ranked(ALL_PARAMETERS, [t for _, t in _totals(route, distinct, found.visits)], top, unscaled)
    owner = np.array([parameter for parameter, _ in layout.groups])[group]
    totals = _totals(owner * len(distinct) + route, distinct, found.visits)
    for parameter, of_one in groupby(totals, key=lambda found: found[0]):
        rows += _ranked(layout.parameters[parameter].name, [t for _, t in of_one], top, unscaled)
    return tuple(rows)


@dataclass(slots=True)
class _Total:
    route: tuple[str, ...]
    traffic: float = 0.0
    mass: float = 0.0


def _totals(keys: np.ndarray, routes: list[tuple[str, ...]], visits: np.ndarray) -> list[tuple[int, _Total]]:
    """Visits added up by key, in the order of the keys; a key is (owner times the number of routes) plus the route."""
    found, at = np.unique(keys, return_inverse=True)
    traffic, mass = (np.bincount(at, visits[:, column]).tolist() for column in (2, 3))
    owners, of = (part.tolist() for part in np.divmod(found, len(routes)))
    return [(o, _Total(routes[r], t, m)) for o, r, t, m in zip(owners, of, traffic, mass, strict=True)]


def route_of(known: Known, sequence: int, paths: list[str]) -> tuple[str, ...]:
    """The route of a sequence by its number; worked out once as long as the workspace keeps its tables.

    `paths` are the components by number.
    """
    route = known.routes.get(sequence)
    if route is None:
        parent, element = known.sequences[2], known.sequences[3]
        crossed = []
        at = sequence
        while at:
            if element[at]:
                crossed.append(paths[element[at] - 1])
            at = parent[at]
        route = collapse(crossed)
        route = known.routes[sequence] = known.interned.setdefault(route, route)
    return route


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
