"""Which way out of each vertex is dominant, in graphs that may have circles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dominant_ways(sources: Sequence[int], targets: Sequence[int], mass: np.ndarray) -> np.ndarray:
    """Per edge, whether it is the dominant way out of its source.

    That is the edge with the most mass (ties: the first; none where all mass is 0). Where such edges run in a circle, the
    heaviest edge that leads out of the circle takes the place of the one at its own source; circles of circles alike.

    Args:
        sources, targets: vertices of each edge.
        mass: float64 [edges].

    Returns:
        bool [edges].
    """
    order = sorted(np.flatnonzero(mass > 0).tolist(), key=lambda e: (-mass[e], e))
    ways: dict[int, list[int]] = {}  # per group, the edges out of its members, the heaviest first
    for edge in order:
        ways.setdefault(sources[edge], []).append(edge)
    home: dict[int, int] = {}  # vertex or group → the group that took it in
    parts: dict[int, list[int]] = {}
    out: dict[int, int] = {}
    groups = max([*sources, *targets], default=-1) + 1

    def whole(member: int) -> int:
        while member in home:
            member = home[member]
        return member

    for start in list(ways):
        line: list[int] = []
        at = whole(start)
        while at not in out and at in ways:
            onward = next((e for e in ways[at] if whole(targets[e]) != at), None)
            if onward is None:  # nothing leads out of it
                break
            out[at] = onward
            line.append(at)
            at = whole(targets[onward])
            if at in line:
                circle = line[line.index(at) :]
                del line[line.index(at) :]
                parts[groups] = circle
                home.update(dict.fromkeys(circle, groups))
                ways[groups] = sorted((e for part in circle for e in ways[part]), key=lambda e: (-mass[e], e))
                at, groups = groups, groups + 1
    dominant = np.zeros(len(mass), np.bool_)
    stack = [(group, out.get(group)) for group in [*ways] if group not in home]
    while stack:
        group, way = stack.pop()
        if group not in parts:
            if way is not None:
                dominant[way] = True
            continue
        for part in parts[group]:
            stack.append((part, way if way is not None and _within(sources[way], part, home) else out[part]))
    return dominant


def _within(member: int, group: int, home: dict[int, int]) -> bool:
    """Whether a vertex is a group, or is in it."""
    while member != group and member in home:
        member = home[member]
    return member == group
