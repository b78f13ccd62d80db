"""A store, a queue and a folder for the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gradtrace.service.local import ServerInfo
from gradtrace.service.local.valkey import ValkeyInfo, start_valkey, stop_valkey
from tests.faults.harness import Site, purge


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyInfo]:
    """One Valkey for all fault tests."""
    data = tmp_path_factory.mktemp("valkey")
    try:
        yield start_valkey(data)
    finally:
        stop_valkey(data)


@pytest.fixture
def site(
    tmp_path: Path, clean_store: ServerInfo, valkey: ValkeyInfo, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """An empty store and empty queues."""
    monkeypatch.setenv("GRADTRACE_WORKLOAD_MODULES", "tests.faults.workloads")  # as the workers have it
    made = Site(tmp_path, clean_store, valkey)
    purge(made)
    yield made
    purge(made)
