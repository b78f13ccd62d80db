"""Many short runs by several processes at once, all writing to one store."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.faults.harness import Site, Worker

RUNS, PROCESSES = 100, 4


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_hundred_short_runs(site: Site, record_property: Callable[[str, object], None]) -> None:
    arguments = [
        "submit",
        "fault-net",
        "--sweep",
        f"seed=0..{RUNS - 1}",
        "--steps",
        "8",
        "--every",
        "1",
        "--threads",
        "1",
    ]
    with Worker(site, "--concurrency", str(PROCESSES)).ready() as worker:
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "gradtrace.service.cli", *arguments, "--wait"],
            env=site.variables(),
            cwd=site.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=1500,
        )
        seconds = time.monotonic() - started
        text = worker.text
    rows = site.ask(
        "MATCH (r:Run) RETURN r.status AS status, r.steps AS steps, r.reason AS reason, r.attempts AS attempts"
    )
    assert len(rows) == RUNS
    assert all(row == {"status": "FINISHED", "steps": 8, "reason": None, "attempts": 0} for row in rows)
    assert site.ask("MATCH (s:Step) RETURN count(*) AS n, count(DISTINCT s.key) AS keys") == [{"n": 800, "keys": 800}]
    assert "Traceback" not in text and "eadlock" not in text
    record_property("measured", f"{RUNS} runs of 8 traced steps by {PROCESSES} processes: {RUNS / seconds:.2f} runs/s")
