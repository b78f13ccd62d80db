"""The route of a path."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.routes import collapse


def route_of(graph: Graph, vertices: Sequence[int]) -> tuple[str, ...]:
    """Tokens of the route of a path, given by `Vertex.idx`; operators without a component are left out."""
    components = (graph.vertices[idx].component for idx in vertices)
    return _collapsed(tuple(c for c in components if c is not None))


@lru_cache(maxsize=4096)
def _collapsed(components: tuple[str, ...]) -> tuple[str, ...]:
    return collapse(components)
