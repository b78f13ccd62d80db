"""Flower, as people point it at the queue: it sees our workers, and what becomes of their segments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gradtrace.service.jobs.limits import SEGMENT
from gradtrace.service.local import bolt
from tests.faults.harness import Site, Worker

PATIENCE = 120


@contextmanager
def flower(site: Site) -> Iterator[Callable[[str], Any]]:
    """A real Flower at the site's queue; gives a function that asks its API. The password is on no command line."""
    port = bolt.free_port()
    log = site.folder / "flower.log"
    variables = {k: v for k, v in os.environ.items() if not k.startswith("GRADTRACE_")}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "flower", "--address=127.0.0.1", f"--port={port}"],
            env={**variables, "BROKER_URL": site.valkey.url, "FLOWER_UNAUTHENTICATED_API": "true"},
            cwd=site.folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return json.load(answer)

    try:
        yield ask
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(30)


def until(ask: Callable[[str], Any], path: str, good: Callable[[Any], Any]) -> Any:
    """What `good` makes of an answer, once it is something."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if found := good(ask(path)):
                return found
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:  # it is starting
            last: Any = error
        else:
            last = "no such answer"
        assert time.monotonic() < deadline, f"{path}: {last}"
        time.sleep(0.2)


@pytest.mark.full
def test_flower_shows_our_workers_and_their_segments(site: Site) -> None:
    with flower(site) as ask, Worker(site, name="seen").ready():

        def inspected(rows: dict[str, Any]) -> tuple[str, set[str]] | None:
            """Our worker and its queues; a busy machine may answer Flower's questions late, so that it asks again."""
            found = [
                (n, row["active_queues"])
                for n, row in rows.items()
                if n.startswith("seen@") and row.get("active_queues")
            ]
            return (found[0][0], {queue["name"] for queue in found[0][1]}) if found else None

        seen, queues = until(ask, "/api/workers?refresh=true", inspected)
        assert queues == {"gradtrace.segments", "gradtrace.control"}
        good, bad = (site.submit(site.spec(2, poison=how)).run for how in ("none", "exit"))
        site.wait(good)
        site.wait(bad)

        def ended(tasks: dict[str, Any]) -> dict[str, Any]:
            ours = [t for t in tasks.values() if t["name"] == SEGMENT and good in str(t["kwargs"])]
            return {t["state"]: t for t in ours if t["state"] == "SUCCESS"}

        task = until(ask, "/api/tasks?limit=200", ended)["SUCCESS"]
        assert task["worker"] == seen
        assert task["received"] and task["started"] and task["succeeded"] and task["runtime"] > 0
        everything = json.dumps([ask("/api/tasks?limit=200"), ask("/api/workers")])
        assert bad in everything
    assert site.valkey.password not in everything and site.neo4j.password not in everything
