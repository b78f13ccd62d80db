"""The store and the queue go away in the middle of runs, come back, and come back empty; no step is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from gradtrace.service.local import ensure_server, stop_server
from gradtrace.service.local.valkey import start_valkey, stop_valkey
from tests.faults.harness import Site, Worker, purge
from tests.forwarder import Forwarder


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


@pytest.mark.full
def test_a_store_that_stays_away_for_longer_than_a_worker_waits(own: Site) -> None:
    """The run is left where it is, and goes on by itself once the store is back."""
    door = Forwarder(own.neo4j.uri)
    try:
        site = Site(own.folder, replace(own.neo4j, uri=door.uri), own.valkey, environment={"STORE_PATIENCE": "2"})
        spec = site.spec(30, pause=0.2)
        other, weights = site.undisturbed(spec)
        with Worker(site).ready() as worker:
            run = site.submit(spec).run
            site.wait(run, until=lambda r: r["position"] >= 4)
            door.target = None
            kill(own.neo4j.pid)
            worker.wait_for("waits until the store is back")
            time.sleep(8)  # beats of reap, heartbeats, tickets: all of them find nobody
            assert worker.alive()
            own.neo4j = ensure_server(own.neo4j.data)
            door.target = int(own.neo4j.uri.rsplit(":", 1)[1])
            found = site.wait(run)
            assert (found["status"], found.get("reason")) == ("FINISHED", None)
            assert worker.alive()
        site.same(run, other, weights)
    finally:
        door.close()


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
