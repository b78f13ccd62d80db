"""Something of PyTorch's replaced for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def replaced(module: ModuleType, name: str, stand_in: Any) -> Iterator[None]:
    """Let a module's `name` be `stand_in`; its own is back on leaving."""
    own = getattr(module, name)
    setattr(module, name, stand_in)
    try:
        yield
    finally:
        setattr(module, name, own)
