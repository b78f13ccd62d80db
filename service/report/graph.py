"""The component graph of a report: long names shortened where there are too many, and places to draw everything.

The drawing goes from the input to the loss in layers. A way that leads over several layers is led between their nodes, as
in Sugiyama, Tagawa & Toda 1981; a way back (of a recurrence) is left to whoever draws.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from gradtrace.service.report.model import ComponentGraph, Row

LOSS = "loss"
"""What operators that belong to no component are called in the drawing."""
MOST = 64
"""Nodes that are drawn at most; more are put together by the first parts of their names."""
_SWEEPS = 12


def shortened(name: str, depth: int | None) -> str:
    """The first `depth` parts of a component's name.

    >>> shortened("layers.3.carry", 2)
    'layers.3'
    """
    return name if depth is None else ".".join(name.split(".")[:depth])


def component_graph(steps: Sequence[int], rows: Iterable[Row], order: Mapping[str | None, int]) -> ComponentGraph:
    """The graph to draw.

    Args:
        steps: the drawn steps.
        rows: of the question `component-graph`.
        order: component → position of its first operator in the forward pass.
    """
    rows = list(rows)
    names = {name for row in rows for name in (row["source"], row["target"])} | {n for n in order if n is not None}
    depth = _depth_for({n for n in names if n is not None})

    def node(name: str | None) -> str:
        return LOSS if name is None else shortened(name, depth)

    first: dict[str, float] = {}
    for name in sorted(names, key=str):
        at = float(order.get(name, -1))
        first[node(name)] = min(first.get(node(name), at), at)
    if LOSS in first:
        first[LOSS] = float("inf")
    nodes = sorted(first, key=lambda n: (first[n], n))
    place = {name: i for i, name in enumerate(nodes)}
    sums: dict[int, dict[tuple[int, int], float]] = {s: defaultdict(float) for s in steps}
    ways: set[tuple[int, int]] = set()
    for row in rows:
        pair = place[node(row["source"])], place[node(row["target"])]
        if pair[0] != pair[1]:
            ways.add(pair)
            if row["step"] in sums:
                sums[row["step"]][pair] += row["share"]
    ordered = tuple(sorted(ways))
    drawing = _Drawing(len(nodes), ordered)
    return ComponentGraph(
        nodes=tuple(nodes),
        places=tuple(drawing.places[(n,)] for n in range(len(nodes))),
        size=(drawing.layers, drawing.rows),
        ways=ordered,
        lines=tuple(drawing.line(way) for way in ordered),
        shares=tuple(tuple(sums[s][way] for way in ordered) for s in steps),
        folded=depth,
    )


def _depth_for(names: set[str]) -> int | None:
    """The greatest depth at which no more than `MOST` names are left; None where all may stay whole."""
    if len(names) <= MOST:
        return None
    deepest = max(name.count(".") for name in names)
    fits = (d for d in range(deepest, 1, -1) if len({shortened(n, d) for n in names}) <= MOST)
    return next(fits, 1)


_Dot = tuple[int, ...]
"""A node (its number), or the bend of a way in a layer (way's ends and the layer)."""


@dataclass
class _Drawing:
    """Layers and rows for nodes that are numbered in the order of the forward pass."""

    count: int
    ways: tuple[tuple[int, int], ...]
    places: dict[_Dot, tuple[float, float]] = field(default_factory=dict)
    layers: int = 0
    rows: float = 0

    def __post_init__(self) -> None:
        layer = [0] * self.count
        for a, b in sorted(w for w in self.ways if w[0] < w[1]):  # sources come before their targets
            layer[b] = max(layer[b], layer[a] + 1)
        following: dict[int, list[int]] = defaultdict(list)
        for a, b in self.ways:
            if a < b:
                following[a].append(layer[b])
        for a in range(self.count - 1, -1, -1):  # what nothing leads to stands right before what it leads to
            if following[a] and not any(b == a for x, b in self.ways if x < b):
                layer[a] = min(following[a]) - 1
        self.layers = max(layer, default=0) + 1
        lines = {way: self._dots(way, layer) for way in self.ways if way[0] < way[1]}
        levels: list[list[_Dot]] = [[] for _ in range(self.layers)]
        for n in range(self.count):
            levels[layer[n]].append((n,))
        for dots in lines.values():
            for dot in dots[1:-1]:
                levels[dot[2]].append(dot)
        near: dict[_Dot, list[_Dot]] = defaultdict(list)
        for dots in lines.values():
            for before, after in pairwise(dots):
                near[before].append(after)
                near[after].append(before)
        self._order(levels, near)
        self.rows = max((len(level) for level in levels), default=1)
        for at, level in enumerate(levels):
            for row, dot in enumerate(level):
                self.places[dot] = float(at), row + (self.rows - len(level)) / 2

    def line(self, way: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """The places that a way is led through."""
        a, b = way
        if a > b:
            return self.places[(a,)], self.places[(b,)]
        first, last = int(self.places[(a,)][0]), int(self.places[(b,)][0])
        return (
            self.places[(a,)],
            *(self.places[(a, b, at)] for at in range(first + 1, last)),
            self.places[(b,)],
        )

    @staticmethod
    def _dots(way: tuple[int, int], layer: Sequence[int]) -> list[_Dot]:
        a, b = way
        return [(a,), *((a, b, at) for at in range(layer[a] + 1, layer[b])), (b,)]

    @staticmethod
    def _order(levels: list[list[_Dot]], near: Mapping[_Dot, Sequence[_Dot]]) -> None:
        """Bring each level into the order of the means of its neighbours' positions, from both sides in turn."""
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            for at in range(1, len(levels)) if down else range(len(levels) - 2, -1, -1):
                beside = levels[at - 1 if down else at + 1]
                spot = {dot: i / max(1, len(beside) - 1) for i, dot in enumerate(beside)}
                own = {dot: i / max(1, len(levels[at]) - 1) for i, dot in enumerate(levels[at])}

                def mean(dot: _Dot, spot: dict[_Dot, float] = spot, own: dict[_Dot, float] = own) -> float:
                    found = [spot[n] for n in near.get(dot, ()) if n in spot]
                    return sum(found) / len(found) if found else own[dot]

                levels[at].sort(key=mean)
