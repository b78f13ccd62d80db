"""Runs as jobs in a real store: leases, fences, attempts, cancelling and resuming; and Celery's settings around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from neo4j import Driver

from gradtrace.service.jobs.app import configuration
from gradtrace.service.jobs.limits import Limits
from gradtrace.service.local import ServerInfo
from gradtrace.service.settings import load_settings
from gradtrace.service.store import Neo4jSink, Store, connect
from gradtrace.service.store.holders import gone, me
from gradtrace.service.store.jobs import VANISHED, Denied, Grant, Jobs, Ticket
from gradtrace.tracer.errors import StaleFenceError, StoreError
from gradtrace.tracer.steptrace import RunRecord
from tests.synthetic import run_record, step_trace

ELSEWHERE = json.dumps({"host": "elsewhere", "pid": 1, "birth": "never"})
LONG = 600.0


@pytest.fixture
def store(clean_store: ServerInfo) -> Iterator[Store]:
    with connect(clean_store.uri, clean_store.user, clean_store.password, "neo4j") as store:
        yield store


@pytest.fixture
def jobs(store: Store) -> Jobs:
    return Jobs(store)


def submitted(jobs: Jobs, run: str = "r") -> Ticket:
    return jobs.submit(RunRecord(run, "digits-mlp", "default", {"lr": 0.1}), '{"workload": "digits-mlp"}')


def taken(jobs: Jobs, ticket: Ticket, seconds: float = LONG, attempts: int = 3, holder: str = ELSEWHERE) -> Grant:
    found = jobs.acquire(ticket, holder, seconds, attempts)
    assert isinstance(found, Grant), found
    return found


def denied(jobs: Jobs, ticket: Ticket, why: str) -> None:
    found = jobs.acquire(ticket, ELSEWHERE, LONG, 3)
    assert isinstance(found, Denied) and why in found.why, found


def property_of(driver: Driver, name: str, run: str = "r") -> object:
    found = driver.execute_query("MATCH (r:Run {id: $run}) RETURN r[$name] AS v", run=run, name=name, database_="neo4j")
    return found.records[0]["v"]


def test_one_of_many_copies_of_a_ticket_is_good(jobs: Jobs) -> None:
    ticket = submitted(jobs)
    found: list[Grant | Denied] = []
    threads = [
        threading.Thread(target=lambda: found.append(jobs.acquire(ticket, ELSEWHERE, LONG, 3))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [grant] = [f for f in found if isinstance(f, Grant)]
    assert (grant.fence, grant.attempt, grant.checkpoint, grant.position) == (1, 1, None, 0)
    assert {f.why for f in found if isinstance(f, Denied)} == {"a worker holds it"}
    denied(jobs, Ticket("r", 1), "a worker holds it")
    denied(jobs, Ticket("r", 7), "the ticket is of fence 7, and the run is at 1")
    denied(jobs, Ticket("nobody", 0), "holds no such run")


def test_a_lease_that_ran_out_and_a_dead_holder_free_the_run(jobs: Jobs) -> None:
    first = taken(jobs, submitted(jobs), seconds=-1)  # it has run out already
    assert jobs.waiting() == [Ticket("r", 1)]
    second = taken(jobs, Ticket("r", 0))  # the first delivery of the ticket was not acknowledged
    assert (second.fence, second.attempt) == (2, 2)
    assert jobs.waiting() == []
    for use in (
        lambda: jobs.renew(first, LONG, {}),
        lambda: jobs.advanced(first, "x", 5, {}),
        lambda: jobs.release(first, graceful=True),
        lambda: jobs.end(first, "FINISHED", None),
        lambda: jobs.note(first, "x"),
    ):
        with pytest.raises(StaleFenceError, match="holds fence 1 of run 'r', and the run is RUNNING at fence 2"):
            use()
    child = subprocess.run(
        [sys.executable, "-c", "from gradtrace.service.store.holders import me; print(me())"],
        capture_output=True,
        text=True,
        check=True,
    )
    dead = child.stdout.strip()
    assert gone(dead) and not gone(me()) and not gone(ELSEWHERE) and not gone("{") and not gone(None)
    ticket = jobs.release(second, graceful=True)
    third = taken(jobs, ticket, holder=dead)
    assert jobs.waiting() == [Ticket("r", 3)]
    assert taken(jobs, Ticket("r", 3)).fence == third.fence + 1
    assert str(os.getpid()) in me()


def test_attempts_are_counted_before_the_work_and_forgotten_with_progress(jobs: Jobs, store: Store) -> None:
    ticket = submitted(jobs)
    grant = taken(jobs, ticket, seconds=-1)
    jobs.advanced(grant, "0000000004-1.safetensors", 4, {"live_loss": 0.5})
    for attempt in (1, 2, 3):
        grant = taken(jobs, jobs.waiting()[0], seconds=-1)
        assert (grant.attempt, grant.position, grant.checkpoint) == (attempt, 4, "0000000004-1.safetensors")
        if attempt == 2:
            ticket = jobs.release(grant, graceful=False, problem="it hurt")
    denied(jobs, jobs.waiting()[0], VANISHED)
    assert property_of(store.driver, "status") == "FAILED"
    assert property_of(store.driver, "reason") == f"no progress in 3 attempts; the last one: {VANISHED}"
    assert jobs.waiting() == []
    with pytest.raises(StaleFenceError):  # even the last one that held it
        jobs.renew(grant, LONG, {})


def test_a_stale_worker_s_steps_and_end_are_refused(jobs: Jobs, store: Store) -> None:
    record = run_record("r")
    ticket = jobs.submit(record, "{}")
    old = taken(jobs, ticket, seconds=-1)
    with Neo4jSink.on(store) as sink:
        sink.set_fence("r", old.fence)
        sink.open_run(record)
        sink.write(step_trace("r", 0))
        sink.flush()
        new = taken(jobs, Ticket("r", 1))
        sink.write(step_trace("r", 1))
        with pytest.raises(StaleFenceError):
            sink.flush()
    assert property_of(store.driver, "steps") == 1
    jobs.end(new, "FINISHED", None)
    denied(jobs, Ticket("r", 2), "it is FINISHED")


def test_cancel_and_resume(jobs: Jobs, store: Store) -> None:
    ticket = submitted(jobs)
    assert jobs.cancel("r") == "cancelled"
    denied(jobs, ticket, "it is INTERRUPTED")
    assert jobs.cancel("r") == "INTERRUPTED"
    again = jobs.resume("r")
    denied(jobs, ticket, "the ticket is of fence 0, and the run waits at 2")
    grant = taken(jobs, again)
    assert jobs.renew(grant, LONG, {"live_step": 3}) is False
    assert jobs.cancel("r") == "stopping"
    assert jobs.renew(grant, LONG, {"live_step": 4}) is True
    with pytest.raises(StoreError, match="A worker holds run 'r' right now"):
        jobs.resume("r")
    jobs.advanced(grant, "0000000004-3.safetensors", 4, {})
    jobs.end(grant, "INTERRUPTED", "cancelled after 4 steps")
    assert taken(jobs, jobs.resume("r")).position == 4
    for name, value in (("reason", None), ("cancel", None), ("attempts", 1)):
        assert property_of(store.driver, name) == value
    assert jobs.look(["r", "x"])["r"]["step"] == 4
    jobs.cancel("r")
    # The worker that should stop is killed: whoever comes next sees to the cancelling.
    store.driver.execute_query("MATCH (r:Run) SET r.lease = datetime() - duration('PT1H')", database_="neo4j")
    denied(jobs, jobs.waiting()[0], "it was cancelled")
    assert taken(jobs, jobs.resume("r", from_start=True)).checkpoint is None


def test_runs_of_gradtrace_run_are_left_alone(jobs: Jobs, store: Store) -> None:
    with Neo4jSink.on(store) as sink:
        sink.open_run(RunRecord("mine", "digits-mlp", "default", {}))
    assert jobs.waiting() == []
    denied(jobs, Ticket("mine", 0), "trained by `gradtrace run`")
    for use in (jobs.cancel, jobs.resume):
        with pytest.raises(StoreError, match="was not submitted but trained by `gradtrace run`"):
            use("mine")
    with pytest.raises(StoreError, match="There is a run 'mine' already"):
        submitted(jobs, "mine")


@pytest.mark.parametrize("seconds", ["1", "60", "900", "86400"])
def test_no_segment_outlasts_a_third_of_the_time_until_redelivery(seconds: str) -> None:
    limits = Limits.of(load_settings({"GRADTRACE_TIME_LIMIT": seconds, "GRADTRACE_SETTINGS": ""}))
    made = configuration("redis://127.0.0.1:1", limits)
    assert limits.segment < limits.soft < limits.hard < limits.visibility / 3
    places = [
        made["visibility_timeout"],
        made["broker_transport_options"]["visibility_timeout"],
        made["result_backend_transport_options"]["visibility_timeout"],
    ]
    assert places == [limits.visibility] * 3
    assert (made["task_time_limit"], made["task_soft_time_limit"]) == (limits.hard, limits.soft)
    assert made["task_acks_late"] and made["task_reject_on_worker_lost"] and made["worker_prefetch_multiplier"] == 1
    assert made["accept_content"] == ["json"] and made["result_backend"] is None
