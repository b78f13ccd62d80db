"""The graph database of the command line: the one that the settings name, or the embedded one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradtrace.service.settings import PREFIX, Settings, load_settings
from gradtrace.tracer.errors import StoreUnreachableError

if TYPE_CHECKING:
    from gradtrace.queries.runner import Library
    from gradtrace.service.store import Store

EMBEDDED = ("data", "cache", "idle", "neo4j_heap")
"""Settings that the embedded server reads from the environment itself."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A connected store, and the question library over it."""

    store: Store
    library: Library


def load() -> Settings:
    """The settings; those of the embedded server are handed on to it through the environment."""
    settings = load_settings()
    for name in EMBEDDED:
        value = getattr(settings, name)
        if value is not None:
            os.environ[PREFIX + name.upper()] = str(value)
    return settings


@contextlib.contextmanager
def opened_store(*, start: bool = True, timeout: float | None = None) -> Iterator[Opened]:
    """Connect to the store; the embedded server is started if need be.

    Args:
        start: False refuses to start a server.
        timeout: seconds that a question may take; the setting `query_timeout` if None.

    Raises:
        StoreUnreachableError: nothing answers there, or `start` is False and the embedded server does not run.
    """
    settings = load()
    if not start and settings.neo4j_uri is None:
        from gradtrace.service.local import server_status

        if server_status(settings.data) is None:
            raise StoreUnreachableError("The embedded Neo4j does not run. Start it with `gradtrace db start`.")

    from gradtrace.queries.runner import Library
    from gradtrace.service.store import connect

    with connect(retry_seconds=30.0 if start else 1.0, schema=start) as store:
        yield Opened(
            store,
            Library(
                store.driver,
                store.database or "neo4j",
                timeout=timeout or settings.query_timeout,
                limit=settings.query_rows,
            ),
        )
