"""The question library: named, typed questions over a store of traces, and a read-only way in for ad hoc Cypher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtrace.queries.answer import Answer as Answer
from gradtrace.queries.answer import Subgraph as Subgraph
from gradtrace.queries.model import Column as Column
from gradtrace.queries.model import Parameter as Parameter
from gradtrace.queries.model import Question as Question
from gradtrace.queries.registry import find as find
from gradtrace.queries.registry import registry as registry

if TYPE_CHECKING:
    from gradtrace.queries.aio import AsyncLibrary as AsyncLibrary
    from gradtrace.queries.runner import Library as Library

__all__ = ["Answer", "AsyncLibrary", "Column", "Library", "Parameter", "Question", "Subgraph", "find", "registry"]


def __getattr__(name: str) -> Any:
    """`Library` and `AsyncLibrary`, which bring the database driver along, are imported when first asked for."""
    if name == "Library":
        from gradtrace.queries.runner import Library

        return Library
    if name == "AsyncLibrary":
        from gradtrace.queries.aio import AsyncLibrary

        return AsyncLibrary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
