"""The store and the queue go away in the middle of runs, come back, and come back empty; no step is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gradtrace.service.local import ensure_server, stop_server
from gradtrace.service.local.valkey import start_valkey, stop_valkey
from tests.faults.harness import Site, Worker, purge


@pytest.fixture
def own(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Servers of this test alone, which it may kill."""
    monkeypatch.setenv("GRADTRACE_WORKLOAD_MODULES", "tests.faults.workloads")
    data = tmp_path_factory.mktemp("own")
    try:
        yield Site(tmp_path, ensure_server(data, idle=120), start_valkey(data), embedded=True)
    finally:
        stop_server(data)
        stop_valkey(data)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def flush(site: Site) -> None:
    """Empty Valkey: messages, and what Celery keeps beside them."""
    with redis.Redis.from_url(site.valkey.url) as client:
        client.flushall()


def test_servers_that_die_lose_no_step(own: Site) -> None:
    spec = own.spec(40, pause=0.1)
    other, weights = own.undisturbed(spec)
    with Worker(own).ready() as worker:
        runs = [own.submit(spec).run for _ in range(3)]

        def begun(run: str, position: int) -> None:
            own.wait(run, until=lambda r: r["position"] >= position)

        begun(runs[0], 4)
        kill(own.neo4j.pid)  # the worker, or whoever comes first, starts it again
        own.neo4j = ensure_server(own.neo4j.data)
        begun(runs[0], 12)
        kill(own.valkey.pid)
        time.sleep(1)
        own.valkey = start_valkey(own.valkey.data)
        begun(runs[1], 8)
        flush(own)
        begun(runs[1], 20)
        kill(own.valkey.pid)
        kill(own.neo4j.pid)
        own.neo4j, own.valkey = ensure_server(own.neo4j.data), start_valkey(own.valkey.data)
        purge(own)
        for run in runs:
            found = own.wait(run)
            assert (found["status"], found.get("reason")) == ("FINISHED", None)
        assert worker.alive()
        assert "queued again" in worker.text
    for run in runs:
        assert own.steps(run) == list(range(0, 40, 2))
        own.same(run, other, weights)
