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


def crossed(route: Sequence[str]) -> set[str]:
    """Components that a route crosses; crossing a part is crossing the whole.

    >>> sorted(crossed(("embed", "(", "lstm.carry", "lstm.cell", ")+", "embed+")))
    ['<model>', 'embed', 'lstm', 'lstm.carry', 'lstm.cell']
    """
    return {line for token in route if token not in ("(", ")+") for line in ancestors(token.removesuffix("+"))}
