"""The route of a path: the components that it crosses, with repeats in a row collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gradtrace.tracer.graph import Graph


def route_of(graph: Graph, vertices: Sequence[int]) -> tuple[str, ...]:
    """Tokens of the route of a path, given by `Vertex.idx`; operators without a component are left out."""
    components = (graph.vertices[idx].component for idx in vertices)
    return collapse(tuple(c for c in components if c is not None))


@lru_cache(maxsize=4096)
def collapse(components: tuple[str, ...]) -> tuple[str, ...]:
    """Collapse repeats in a row, shortest block first, left to right, to a fixed point.

    >>> collapse(("embed", "carry", "cell", "carry", "cell", "head", "head"))
    ('embed', '(', 'carry', 'cell', ')+', 'head+')
    """
    items: list[tuple[str, ...]] = [(name,) for name in components]  # one token, or one block that was collapsed
    width = 1
    while width <= len(items) // 2:
        found, start = False, 0
        while start + 2 * width <= len(items):
            block = items[start : start + width]
            stop = start + width
            while items[stop : stop + width] == block:
                stop += width
            if stop > start + width:
                items[start:stop] = [_repeated(block)]
                found = True
            start += 1
        width = 1 if found else width + 1
    return tuple(token for item in items for token in item)


def _repeated(block: list[tuple[str, ...]]) -> tuple[str, ...]:
    tokens = tuple(token for item in block for token in item)
    if len(block) == 1 and (len(tokens) > 1 or tokens[0].endswith("+")):
        return tokens  # a repeated repeat
    return (tokens[0] + "+",) if len(tokens) == 1 else ("(", *tokens, ")+")
