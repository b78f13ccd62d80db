"""Keys of the store's shared nodes and rollups: equal things get equal keys in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache

from gradtrace.tracer.component_names import ancestors

OTHER_ROUTE = "other"
"""Hash of the one route that stands for all routes beyond the top K."""


def digest(*parts: object) -> str:
    """Hex digest of JSON values; 32 digits, which the store keeps without a record of their own."""
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def component_key(architecture: str, path: str) -> str:
    """Key of a component: the same path in two models is two components."""
    return f"{architecture}:{path}"


def vertex_key(fingerprint: str, idx: int) -> str:
    """Key of a vertex of a graph."""
    return f"{fingerprint}:{idx}"


def path_hash(fingerprint: str, vertices: Sequence[int]) -> str:
    """Hash of a path: its graph and the operators that it crosses."""
    return _path_hash(fingerprint, tuple(vertices))


def route_hash(route: Sequence[str] | None) -> str:
    """Hash of a route: its tokens alone, so that runs of different models can share it."""
    return OTHER_ROUTE if route is None else _route_hash(tuple(route))


# The same paths and routes come back at nearly every step, several times in each.
@lru_cache(maxsize=8192)
def _path_hash(fingerprint: str, vertices: tuple[int, ...]) -> str:
    text = f"{fingerprint}:{','.join(map(str, vertices))}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(maxsize=8192)
def _route_hash(route: tuple[str, ...]) -> str:
    return digest(list(route))


def step_key(run: str, step: int) -> str:
    """Key of a step."""
    return f"{run}:{step}"


def trace_key(run: str, step: int, mode: str, batch: str) -> str:
    """Key of one trace of a step."""
    return f"{run}:{step}:{mode}:{batch}"


def epoch_key(run: str, epoch: int, mode: str, batch: str, fingerprint: str) -> str:
    """Key of what is summed over an epoch: one a mode, batch and graph."""
    return f"{run}:{epoch}:{mode}:{batch}:{fingerprint}"


def crossings(route: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Which components a route crosses: path → (position of the first crossing token, number of crossing tokens).

    Positions count component tokens from 0; parentheses do not count. Crossing a part is crossing the whole.

    >>> crossings(("embed", "(", "lstm.l0.carry", "lstm.l0.cell", ")+", "head+"))["lstm.l0"]
    (1, 2)
    """
    found: dict[str, tuple[int, int]] = {}
    components = [token.removesuffix("+") for token in route if token not in ("(", ")+")]
    for position, path in enumerate(components):
        for line in ancestors(path):
            first, count = found.get(line, (position, 0))
            found[line] = (first, count + 1)
    return found
