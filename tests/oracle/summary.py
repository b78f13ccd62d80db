"""What a set of paths says about operator edges and components, computed path by path."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from tests.oracle.components import ComponentMap, inside, node_components
from tests.oracle.routes import route
from tests.oracle.scalar_graph import ScalarGraph
from tests.oracle.traces import Traces


@dataclass
class EdgeTotals:
    """Totals of one operator edge."""

    flow: float = 0.0
    peak: float = 0.0
    traffic: int = 0
    mass: float = 0.0


@dataclass
class ComponentTotals:
    """Totals of one component with its descendants."""

    mass: float = 0.0
    traffic: int = 0
    entries: int = 0
    own: float = 0.0
    foreign: float = 0.0
    contested: int = 0
    won: int = 0
    flow: float = 0.0


@dataclass(eq=False)
class LivePath:
    """The path of one live parameter scalar: parameter name, its vertex, |g| and the edges it takes."""

    parameter: str
    vertex: int
    mass: float
    edges: list[int]


@dataclass(eq=False)
class Summary:
    """Edges by (source node, target node, slot), components by path, routes by text."""

    edges: dict[tuple[int, int, int], EdgeTotals] = field(default_factory=lambda: defaultdict(EdgeTotals))
    components: dict[str, ComponentTotals] = field(default_factory=dict)
    routes: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)


def edge_key(graph: ScalarGraph, edge: int) -> tuple[int, int, int]:
    """The operator edge that a scalar edge is part of."""
    return (
        int(graph.owner[graph.source[edge]]),
        int(graph.owner[graph.target[edge]]),
        int(graph.slot[edge]),
    )


def structural_edges(graph: ScalarGraph) -> set[tuple[int, int, int]]:
    """All operator edges, those without any nonzero weight included."""
    return {
        (int(source), position, slot)
        for (position, slot), vertices in graph.operands.items()
        for source in np.unique(graph.owner[vertices])
    }


def possible_edges(graph: ScalarGraph) -> set[tuple[int, int, int]]:
    """All operator edges there could be, if nodes that choose by an argument chose otherwise."""
    crossing = {n.position for n in graph.operators}
    seen: dict[int, set[int]] = {}
    for node in graph.recording.nodes:  # operands first
        if node.leaf is not None or node.position in crossing:
            seen[node.position] = {node.position}
        else:
            below = [seen[o[0].position] for o in node.operands if o is not None]
            seen[node.position] = set().union(*below)
    found = structural_edges(graph)
    for node in graph.operators:
        for slot, operand in enumerate(node.operands):
            if operand is not None:
                found |= {(s, node.position, slot) for s in seen[operand[0].position]}
    return found


def summarise(traces: Traces, paths: list[LivePath], components: ComponentMap, names: list[str]) -> Summary:
    """Everything that a step says of one mode, from the given paths of all live parameter scalars.

    Args:
        traces: the mode's candidates.
        paths: all live paths, as the judged tracer chose them where candidates tie.
        components: component of every vertex.
        names: the components to report on.
    """
    graph = traces.graph
    out = Summary()
    products = np.abs(graph.weight * graph.gradient[graph.target])
    for e, product in enumerate(products):
        if math.isfinite(product):
            total = out.edges[edge_key(graph, e)]
            total.flow += float(product)
            total.peak = max(total.peak, float(product))
    for path in paths:
        for e in path.edges:
            total = out.edges[edge_key(graph, e)]
            total.traffic += 1
            total.mass += path.mass
    for name in names:
        out.components[name] = _component(traces, paths, components, name, products)
    by: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    for path in paths:
        text = route(components.of_path(graph, path.edges))
        for scope in ("*", path.parameter):
            traffic, mass = by[scope].get(text, (0, 0.0))
            by[scope][text] = (traffic + 1, mass + path.mass)
    out.routes = dict(by)
    return out


def _component(
    traces: Traces, paths: list[LivePath], components: ComponentMap, name: str, products: np.ndarray
) -> ComponentTotals:
    graph = traces.graph
    total = ComponentTotals()
    member = np.array([inside(c, name) for c in components.of])
    operator = graph.crossing
    within = member & operator  # a parameter counts as outside: entering from it is entering
    # Flow is of operator edges: an operator whose scalars lie in several parts lies in what these have in common.
    nodes = {p for p, c in node_components(graph, components).items() if inside(c, name)}
    whole = np.isin(graph.owner, list(nodes)) & operator
    flows = products[whole[graph.target] & ~whole[graph.source]] if len(graph.source) else products
    total.flow = float(flows[np.isfinite(flows)].sum())
    contested = {}
    for path in paths:
        hits = [bool(within[graph.target[e]]) for e in path.edges]
        if any(hits):
            total.traffic += 1
            total.mass += path.mass
            if member[path.vertex]:
                total.own += path.mass
            else:
                total.foreign += path.mass
        total.entries += sum(1 for h, _ in groupby(hits) if h)
        for e, hit in zip(path.edges, hits, strict=True):
            v = int(graph.source[e])
            if v not in contested:
                sides = within[graph.target[traces.candidates(v)]]
                contested[v] = bool(sides.any() and not sides.all())
            if contested[v]:
                total.contested += 1
                total.won += hit
    return total
