"""Exactly once: whatever is sent twice, by however many at once, is there once and whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from neo4j import Driver

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink
from gradtrace.service.store.writer import slices
from gradtrace.tracer.errors import StaleFenceError
from tests.service.store.readback import address, ask, assert_whole, census, fill
from tests.service.store.test_rollups import assert_true
from tests.service.store.writing import step_of
from tests.synthetic import run_record, step_trace

ROOT = Path(__file__).parents[3]


def start_writer(server: ServerInfo, run: str, first: int, last: int) -> subprocess.Popen[str]:
    """A process that writes steps `first` to `last` of `run`."""
    known = {"STORE_URI": server.uri, "STORE_USER": server.user, "STORE_PASSWORD": server.password}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.service.store.writing", run, str(first), str(last)],
        cwd=ROOT,
        env=os.environ | known,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sent_twice_changes_nothing(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_of("r", n) for n in range(5)]
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(run_record("r"))
        for step in [*steps, *steps]:  # twice within one batch
            sink.write(step)
        assert sink.flush() == 5
        before, counts, created = fill(driver), census(driver), sink.created
        for step in steps:
            sink.write(step)
        assert sink.flush() == 5 and sink.created == created
    with Neo4jSink(*address(clean_store)) as other:
        other.open_run(run_record("r"))
        other.write(step_trace("r", 2, seed=9))  # other values under the same number: the first one stays
        for step in steps:
            other.write(step)
        assert other.flush() == 5
    changed = fill(driver)
    assert {k: v for k, v in changed.items() if before.get(k) != v} == _of_new_paths(driver, before, changed)
    assert census(driver)["Step"] == counts["Step"] == 5
    assert_whole(driver, "r", steps)
    assert_true(driver, "r", steps)


def _of_new_paths(driver: Driver, before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The refused step's paths and routes may stay: shared nodes that no step refers to. Everything else may not."""
    shared = ("Path.", "Route.", "VISITS.", "CROSSES.")
    return {k: v for k, v in after.items() if k.startswith(shared) and before.get(k) != v}


def test_writers_at_once_in_threads(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_of("r", n) for n in range(12)]
    barrier, errors = threading.Barrier(3), []

    def write(order: int) -> None:
        try:
            with Neo4jSink(*address(clean_store), batch_steps=3) as sink:
                barrier.wait()
                sink.open_run(run_record("r"))
                for step in steps if order else reversed(steps):
                    sink.write(step)
                assert sink.flush() == len(steps)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_whole(driver, "r", steps)
    assert_true(driver, "r", steps)
    assert census(driver)["Run"] == census(driver)["IN"] == 1


def test_writers_at_once_in_processes(clean_store: ServerInfo, driver: Driver) -> None:
    """Two processes on the same steps and a third on another run with the same graph."""
    writers = [start_writer(clean_store, run, 0, 9) for run in ("r", "r", "s")]
    for writer in writers:
        out, err = writer.communicate(timeout=240)
        assert writer.returncode == 0, err
        assert err == ""  # what the driver tries again is no news
        assert out.splitlines()[-1] == "done"
    for run in ("r", "s"):
        steps = [step_of(run, n) for n in range(9)]
        assert_whole(driver, run, steps)
        assert_true(driver, run, steps)


@pytest.mark.parametrize("acknowledged_before", [pytest.param(1, marks=pytest.mark.full), 4])
def test_kill_of_a_writer_loses_nothing_acknowledged(
    clean_store: ServerInfo, driver: Driver, acknowledged_before: int
) -> None:
    writer = start_writer(clean_store, "r", 0, 5000)
    assert writer.stdout is not None
    durable: list[int] = []
    for _ in range(acknowledged_before):
        durable += map(int, writer.stdout.readline().split())
    writer.kill()
    rest, _ = writer.communicate(timeout=60)
    durable += [int(n) for line in rest.splitlines(keepends=True) if line.endswith("\n") for n in line.split()]
    held = sorted(ask(driver, "MATCH (s:Step) RETURN s.step"))
    assert len(durable) >= 3 * acknowledged_before and set(durable) <= set(held)
    assert held == list(range(len(held)))  # in order, so what is there is a beginning
    steps = [step_of("r", n) for n in held]
    assert_whole(driver, "r", steps)  # none of them partial
    assert_true(driver, "r", steps)
    last = held[-1] + 6
    again = start_writer(clean_store, "r", max(0, held[-1] - 4), last)
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    steps = [step_of("r", n) for n in range(last)]
    assert_whole(driver, "r", steps)
    assert_true(driver, "r", steps)


def test_a_stale_fence_writes_nothing(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_of("r", n) for n in range(4)]
    sink = Neo4jSink(*address(clean_store))
    sink.open_run(run_record("r"))
    ask(driver, "MATCH (r:Run) SET r.fence = r.fence + 1")
    sink.set_fence("r", 1)
    sink.write(steps[0])
    assert sink.flush() == 1
    ask(driver, "MATCH (r:Run) SET r.fence = r.fence + 1")  # another worker takes the run over
    sink.write(steps[1])
    sink.write(steps[2])
    with pytest.raises(
        StaleFenceError, match=r"holds fence 1 of run 'r', and the run is at fence 2.* 1 more were refused"
    ):
        sink.flush()
    assert [s.step for s, _ in sink.refused] == [1, 2] and sink.unsent == ()
    with pytest.raises(StaleFenceError):
        sink.close_run("r", "FINISHED")
    sink.close()
    assert ask(driver, "MATCH (r:Run) RETURN r.status") == ["RUNNING"]
    assert_whole(driver, "r", steps[:1])
    with Neo4jSink(*address(clean_store)) as other:  # the one that took it over
        other.set_fence("r", 2)
        for step in steps:
            other.write(step)
        assert other.flush() == 4
        other.close_run("r", "FINISHED")
    assert_whole(driver, "r", steps)


def test_batches_are_bounded_by_steps_and_bytes() -> None:
    assert slices([5, 5, 5, 5], most=10, most_bytes=12) == 2
    assert slices([5, 5, 5, 5], most=3, most_bytes=1000) == 3
    assert slices([50, 5], most=10, most_bytes=12) == 1
    assert slices([5], most=10, most_bytes=12) == 1


def test_small_batches_store_the_same(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_of("r", n) for n in range(5)]
    with Neo4jSink(*address(clean_store), batch_bytes=1) as sink:
        for step in steps:
            sink.write(step)  # the run was never announced: it is, with its id
    assert_whole(driver, "r", steps)
    assert ask(driver, "MATCH (r:Run)-[:IN]->(e) RETURN r.id, r.modes, e.name") == [
        ["r", ["greedy", "maxprod"], "default"]
    ]
