"""Opens what a worker's process works with, from the settings."""

from __future__ import annotations

from functools import lru_cache

from gradtrace.service.jobs import stopping
from gradtrace.service.jobs.limits import Limits, checkpoint_root
from gradtrace.service.jobs.queue import enqueue
from gradtrace.service.jobs.work import Office
from gradtrace.service.log import hide
from gradtrace.service.settings import load_settings
from gradtrace.service.store import connect

_RETRY_SECONDS = 10.0


def open_office() -> Office:
    """Connect to the store.

    Raises:
        StoreError: it cannot be used.
    """
    settings = load_settings()
    store = connect(retry_seconds=_RETRY_SECONDS, progress=False)
    if store.server is not None:
        hide(store.server.password)
    return Office(store, Limits.of(settings), checkpoint_root(settings), enqueue, stopping.stopped)


@lru_cache(maxsize=1)
def broker_url() -> str:
    """The broker's address, with the password in it."""
    from gradtrace.service.local.valkey import ensure_valkey

    return ensure_valkey(load_settings())
