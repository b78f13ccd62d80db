"""Workloads that no worker should have to run: each ends FAILED with its reason, and the worker goes on."""

from __future__ import annotations

import json

import pytest

from tests.faults.harness import Site, Worker, gradtrace

PLANTED = "pl4nted-s3cret-in-the-environment"


@pytest.fixture
def poisoned(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("PLANTED_PASSWORD", PLANTED)
    site.environment |= {"WORKER_MEMORY": "1200", "MAX_ATTEMPTS": "2", "LEASE_SECONDS": "3"}
    return site


REASONS = {
    "raise": "no progress in 2 attempts; the last one: RuntimeError: cannot go on at ?[31m**********?[0m",
    "exit": "no progress in 2 attempts; the last one: SystemExit: 3",
    "leave": "no progress in 2 attempts; the last one: its worker vanished without a word (killed, out of memory, or the "
    "workload ended the process)",
    "print": "no progress in 2 attempts; the last one: ValueError: **********",
}


def test_poison(poisoned: Site) -> None:
    with Worker(poisoned) as worker:
        runs = {}
        for kind in (*REASONS, "eat", "none"):
            runs[kind] = poisoned.submit(poisoned.spec(6, poison=kind, at=0 if kind == "raise" else 2)).run
        for kind, run in runs.items():
            poisoned.wait(run, seconds=200)
            found = poisoned.look(run)
            if kind == "none":
                assert (found["status"], found.get("reason")) == ("FINISHED", None)
            elif kind == "eat":
                assert found["status"] == "FAILED"
                assert "MiB of memory, more than the 1,200 MiB of GRADTRACE_WORKER_MEMORY" in found["reason"]
            else:
                assert (found["status"], found["reason"]) == ("FAILED", REASONS[kind])
            assert PLANTED not in str(found)
        assert worker.alive()
    told = gradtrace(poisoned, "runs", "--status", "FAILED", "--format", "json").stdout
    assert PLANTED not in told
    reasons = {row["run"]: row["reason"] for row in json.loads(told)}
    assert set(reasons) == {run for kind, run in runs.items() if kind != "none"}
    assert all(reasons[runs[kind]] == reason for kind, reason in REASONS.items())
    for secret in (PLANTED, poisoned.neo4j.password, poisoned.valkey.password):
        assert secret not in worker.text
    assert "the password is **********" in worker.text
    assert "on stderr as well: **********" in worker.text


def test_progress_starts_the_count_again(site: Site) -> None:
    """A workload that raises after some steps of each process gets on by its checkpoints, and is no poison."""
    site.environment |= {"MAX_ATTEMPTS": "2"}
    with Worker(site):
        run = site.submit(site.spec(20, poison="raise", at=6)).run
        found = site.wait(run)
    assert (found["status"], found["position"]) == ("FINISHED", 20)
    assert found["fence"] > 2


def test_one_that_hangs_is_interrupted(poisoned: Site) -> None:
    with Worker(poisoned, TIME_LIMIT="15", MAX_ATTEMPTS="1") as worker:
        found = poisoned.wait(poisoned.submit(poisoned.spec(6, poison="hang", at=2)).run)
        assert worker.alive()
    reason = "no progress in 1 attempt; the last one: it took longer than 15 s (GRADTRACE_TIME_LIMIT)"
    assert (found["status"], found["reason"]) == ("FAILED", reason)


@pytest.mark.full
def test_one_that_will_not_be_told_is_killed(poisoned: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAULT_SLOW", "8")  # the reason is in the store before the kill however late training began
    with Worker(poisoned, TIME_LIMIT="25", MAX_ATTEMPTS="1") as worker:
        found = poisoned.wait(poisoned.submit(poisoned.spec(6, poison="stubborn", at=2)).run)
        assert worker.alive()
    assert found["status"] == "FAILED"
    assert found["reason"].endswith("it took longer than 25 s (GRADTRACE_TIME_LIMIT), and went on when told to stop")
