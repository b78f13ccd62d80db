"""How component names nest: by dots, below the model itself."""

from __future__ import annotations

from functools import lru_cache

ROOT = "<model>"
"""Path of the model itself: of the operators directly in its own `forward`."""


@lru_cache(maxsize=65536)
def ancestors(path: str) -> tuple[str, ...]:
    """`path` and all components that contain it, innermost first, ending with the model itself.

    >>> ancestors("lstm.l0.carry")
    ('lstm.l0.carry', 'lstm.l0', 'lstm', '<model>')
    """
    if path == ROOT:
        return (ROOT,)
    parts = path.split(".")
    return (*(".".join(parts[:n]) for n in range(len(parts), 0, -1)), ROOT)


def join(outer: str | None, inner: str) -> str:
    """Path of `inner` inside `outer`; the model itself and "outside" (None) leave no trace in the path."""
    return inner if outer is None or outer == ROOT else f"{outer}.{inner}"
