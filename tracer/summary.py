"""From the arrays of a solved step to the rows of `steptrace`."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from gradtrace.tracer.component_names import ancestors
from gradtrace.tracer.kernels import tree
from gradtrace.tracer.kernels.component_sets import COUNT
from gradtrace.tracer.kernels.passes import mark_read
from gradtrace.tracer.kernels.shares import component_totals, visits_of
from gradtrace.tracer.plan import Plan
from gradtrace.tracer.routes import collapse
from gradtrace.tracer.solve import Solved
from gradtrace.tracer.steptrace import (
    ALL_PARAMETERS,
    BatchTrace,
    ComponentShare,
    DominantPath,
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
    flow = by_edge(solved.flow)
    mass = by_edge(solved.use_mass * unscaled)
    return BatchTrace(
        mode=solved.mode,
        batch=batch,
        graph=plan.graph,
        loss=loss,
        flow=flow * unscaled,
        peak=peak,
        traffic=by_edge(solved.use_traffic),
        mass=mass,
        dominant=dominant_edges(plan, mass),
        non_finite=solved.non_finite or not math.isfinite(loss),
        parameters=parameter_rows(solved, unscaled, batch_size),
        components=component_rows(solved, flow, unscaled),
        routes=route_rows(solved, unscaled, top_routes),
        consistent=plan.consistent is not False,
    )


def dominant_edges(plan: Plan, mass: np.ndarray) -> np.ndarray:
    """Per edge, whether it carries the most mass out of its source (ties: the first; none where all mass is 0)."""
    sources = np.array([e.source for e in plan.graph.edges], np.int64)
    order = np.lexsort((np.arange(mass.size), -mass, sources))
    first = np.ones(mass.size, np.bool_)
    first[1:] = sources[order][1:] != sources[order][:-1]
    dominant = np.zeros(mass.size, np.bool_)
    dominant[order[first]] = True
    return dominant & (mass > 0)


def parameter_rows(solved: Solved, unscaled: float, batch_size: int | None) -> tuple[ParameterTrace, ...]:
    """One row a parameter tensor, strongest path included."""
    rows = []
    for info in solved.captured.plan.layout.parameters:
        if info.tensor is None:
            unread = math.prod(info.shape)
            rows.append(ParameterTrace(info.name, info.vertex, info.shape, 0, 0.0, 0, unread, 0, None))
            continue
        base, size = int(solved.plan.base[info.tensor]), int(solved.plan.size[info.tensor])
        live = solved.traffic[base : base + size] > 0
        mass = solved.mass[base : base + size]
        traffic = int(live.sum())
        unread = 0
        if traffic < size:
            read = np.zeros(size, np.uint8)
            mark_read(info.tensor, solved.plan, read)
            unread = int((read == 0).sum())
        gradient = solved.gradients[info.tensor]
        non_finite = 0 if gradient is None else int((~np.isfinite(gradient)).sum())
        total = float(mass[live].sum())
        strongest = None
        if traffic:
            scalar = int(np.where(live, mass, -1.0).argmax())
            strongest = dominant_path(solved, info, scalar, total, unscaled, batch_size)
        rows.append(
            ParameterTrace(
                info.name, info.vertex, info.shape, traffic, total * unscaled, size - traffic - unread, unread, non_finite,
                strongest,
            )
        )  # fmt: skip
    return tuple(rows)


def dominant_path(
    solved: Solved, info: ParameterInfo, scalar: int, total: float, unscaled: float, batch_size: int | None
) -> DominantPath | None:
    """The trace of one scalar of a parameter, or None if it breaks off (underflow on the way)."""
    assert info.tensor is not None  # unread parameters have no traces
    plan, layout = solved.plan, solved.captured.plan.layout
    start = int(plan.base[info.tensor]) + scalar
    rows = solved.trace_rows(start)
    columns = solved.columns[rows]
    if columns[0, tree.LENGTH] < 0:
        return None
    ids = columns[1:, tree.ID].astype(np.int64)
    tensors = np.searchsorted(plan.base, ids, side="right") - 1
    index = ids - plan.base[tensors]
    gradients = [gradient_at(solved, int(t), int(i)) * unscaled for t, i in zip(tensors, index, strict=True)]
    own = gradient_at(solved, info.tensor, scalar) * unscaled
    vertices = tuple(layout.vertex_of_tensor[t] for t in tensors)
    log_product = float(columns[0, tree.LOG_PRODUCT])
    mass = abs(own) if math.isfinite(own) else 0.0
    example, time = place_of(solved, vertices, index, batch_size)
    return DominantPath(
        scalar=scalar,
        vertices=vertices,
        index=tuple(index.tolist()),
        weight=tuple(columns[:-1, tree.PARTIAL].tolist()),
        gradient=tuple(gradients),
        parameter_gradient=own,
        mass=mass,
        share=mass / (total * unscaled) if total else 0.0,
        margin=float(columns[0, tree.LEAST_MARGIN]),
        # Both in units of the unscaled loss: the product of partials never saw the scaler.
        concentration=math.exp(log_product - math.log(mass)) if mass else math.inf,
        example=example,
        time=time,
    )


def gradient_at(solved: Solved, tensor: int, index: int) -> float:
    """The gradient of one scalar; 0 where autograd had none."""
    gradient = solved.gradients[tensor]
    return 0.0 if gradient is None else float(gradient[index])


def place_of(
    solved: Solved, vertices: tuple[int, ...], index: np.ndarray, batch_size: int | None
) -> tuple[int | None, int | None]:
    """(example, time step) of a path: of its first operator that repeats, else by the batch size alone."""
    graph = solved.captured.plan.graph
    for vertex, flat in zip(vertices, index.tolist(), strict=True):
        v = graph.vertices[vertex]
        if v.time is not None:
            rows = v.shape[0] if len(v.shape) > 1 else 0
            known = rows > 1 and (batch_size is None or rows == batch_size)
            return (flat // math.prod(v.shape[1:]) if known else None), v.time
    if batch_size is not None:
        for vertex, flat in zip(vertices, index.tolist(), strict=True):
            v = graph.vertices[vertex]
            if len(v.shape) > 1 and v.shape[0] == batch_size:
                return flat // math.prod(v.shape[1:]), None
    return None, None


def component_rows(solved: Solved, edge_flow: np.ndarray, unscaled: float) -> tuple[ComponentShare, ...]:
    """One row a component, descendants included, in the graph's order."""
    plan = solved.captured.plan
    layout = plan.layout
    names = [c.path for c in plan.graph.components]
    number = {path: at for at, path in enumerate(names)}
    within = np.zeros((len(layout.paths) + 1, len(names)), np.bool_)
    for at, path in enumerate(layout.paths):
        for above in ancestors(path):
            within[at + 1, number[above]] = True
    owned = np.zeros((max(len(layout.groups), 1), len(names)), np.bool_)
    for at, (_, owner) in enumerate(layout.groups):
        for above in ancestors(owner) if owner is not None else ():
            owned[at, number[above]] = True
    table = solved.sequence_table
    visits = visits_of(table[2], table[3], int(table[4][COUNT]), within)
    count = len(names)
    mass, own = np.zeros(count), np.zeros(count)
    traffic, entries = np.zeros(count, np.int64), np.zeros(count, np.int64)
    component_totals(solved.visits, visits, owned, mass, traffic, entries, own)
    contested, won = contest_totals(solved, within)
    flow = entering_flow(plan, edge_flow, number)
    total_mass, total_traffic = float(solved.visits[:, 3].sum()), int(solved.visits[:, 2].sum())
    return tuple(
        ComponentShare(
            component=path,
            share=min(float(mass[c]) / total_mass, 1.0) if total_mass else 0.0,
            mass=float(mass[c]) * unscaled,
            traffic=int(traffic[c]),
            visits=int(entries[c]) / total_traffic if total_traffic else 0.0,
            own=float(own[c]) * unscaled,
            foreign=float(mass[c] - own[c]) * unscaled,
            contested=int(contested[c]),
            won=int(won[c]),
            flow=float(flow[c]) * unscaled,
        )
        for c, path in enumerate(names)
    )


def contest_totals(solved: Solved, within: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per component, departures from vertices with candidates inside and outside, and those that went inside."""
    contested, won = np.zeros(within.shape[1], np.int64), np.zeros(within.shape[1], np.int64)
    for table, contests in solved.set_tables:
        parent, element = table[2], table[3]
        for number, winner, count in contests.tolist():
            members = []
            while number:
                members.append(element[number])
                number = parent[number]
            inside = within[members]
            disputed = inside.any(0) & ~inside.all(0)
            contested[disputed] += count
            won[disputed & within[winner]] += count
    return contested, won


def entering_flow(plan: Plan, flow: np.ndarray, number: dict[str, int]) -> np.ndarray:
    """Per component, the flow over operator edges from outside (parameters count as outside) to inside."""
    total = np.zeros(len(number))
    vertices = plan.graph.vertices
    for edge in plan.graph.edges[: flow.size]:
        target, source = vertices[edge.target], vertices[edge.source]
        if target.component is None:
            continue
        outside = source.kind not in ("operator", "loss") or source.component is None
        beneath = () if outside else ancestors(source.component or "")
        for path in ancestors(target.component):
            if path not in beneath:
                total[number[path]] += flow[edge.idx]
    return total


def route_rows(solved: Solved, unscaled: float, top: int) -> tuple[RouteShare, ...]:
    """Top routes by mass, overall and per parameter; what lies beyond is one "other" row."""
    layout = solved.captured.plan.layout
    parent, element = solved.sequence_table[2], solved.sequence_table[3]
    known: dict[int, tuple[str, ...]] = {}
    totals: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(lambda: defaultdict(lambda: [0, 0.0]))
    for group, sequence, traffic, mass in solved.visits.tolist():
        number = int(sequence)
        if number not in known:
            crossed = []
            at = number
            while at:
                if element[at]:
                    crossed.append(layout.paths[element[at] - 1])
                at = parent[at]
            known[number] = cached_route(tuple(crossed))
        name = layout.parameters[layout.groups[int(group)][0]].name
        for key in (ALL_PARAMETERS, name):
            entry = totals[key][known[number]]
            entry[0] += traffic
            entry[1] += mass * unscaled
    rows: list[RouteShare] = []
    for key in (ALL_PARAMETERS, *(p.name for p in layout.parameters)):
        if key in totals:
            rows += _ranked(key, totals[key], top)
    return tuple(rows)


def _ranked(key: str, totals: dict[tuple[str, ...], list[float]], top: int) -> list[RouteShare]:
    whole = sum(mass for _, mass in totals.values())
    ordered = sorted(totals.items(), key=lambda item: (-item[1][1], -item[1][0], item[0]))
    rows = [
        RouteShare(key, route, int(traffic), mass, mass / whole if whole else 0.0, rank)
        for rank, (route, (traffic, mass)) in enumerate(ordered[:top], 1)
    ]
    if len(ordered) > top:
        traffic = int(sum(t for _, (t, _) in ordered[top:]))
        mass = sum(m for _, (_, m) in ordered[top:])
        rows.append(RouteShare(key, None, traffic, mass, mass / whole if whole else 0.0, top + 1))
    return rows


_ROUTES: dict[tuple[str, ...], tuple[str, ...]] = {}


def cached_route(crossed: tuple[str, ...]) -> tuple[str, ...]:
    """`collapse`, remembered: the same lists come back at every step."""
    if crossed not in _ROUTES:
        if len(_ROUTES) > 200_000:
            _ROUTES.clear()
        _ROUTES[crossed] = collapse(crossed)
    return _ROUTES[crossed]
