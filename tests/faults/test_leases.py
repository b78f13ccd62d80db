"""One run, one worker: tickets twice, two workers, a worker that sleeps through its lease, and workers told to stop."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from gradtrace.service.store.jobs import Ticket
from tests.faults.harness import Site, Worker, holder


@pytest.mark.full
def test_a_ticket_in_many_copies_and_two_workers(site: Site) -> None:
    spec = site.spec(24, pause=0.05)
    other, weights = site.undisturbed(spec)
    with Worker(site, name="a").ready() as a, Worker(site, name="b").ready() as b:
        ticket = site.submit(spec)
        for fence in (0, 0, 1, 2, 3):  # copies of the first ticket, and of those to come
            site.put(Ticket(ticket.run, fence))
        site.wait(ticket.run)
        site.put(ticket)
        site.put(Ticket("no-such-run", 0))
        for worker in (a, b):
            assert worker.alive()
        deadline_words = "the store holds no such run"
        while deadline_words not in a.text + b.text:
            assert a.alive() and b.alive()
    text = a.text + b.text
    assert "is not good: " in text
    for worker in (a, b):
        assert "begins at step" in worker.text or "is not good: " in worker.text, "it had no part in it"
    assert "Traceback" not in text
    site.same(ticket.run, other, weights)
    assert site.steps(ticket.run) == list(range(0, 24, 2))


def test_a_worker_that_slept_through_its_lease_writes_nothing(site: Site) -> None:
    site.environment |= {"LEASE_SECONDS": "2", "CHECKPOINT_STEPS": "6", "SEGMENT_STEPS": "1000"}
    spec = site.spec(24, pause=0.15)
    other, weights = site.undisturbed(spec)
    with Worker(site, name="sleeper").ready() as sleeper:
        ticket = site.submit(spec)
        site.wait(ticket.run, until=lambda r: r["position"] >= 6)
        first, fence = holder(site, ticket.run), site.look(ticket.run)["fence"]
        stopped = [sleeper.process.pid, *(c.pid for c in psutil.Process(sleeper.process.pid).children(recursive=True))]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        with Worker(site, name="other") as second:
            site.wait(ticket.run, until=lambda r: r["fence"] > fence)
            assert holder(site, ticket.run) != first
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            sleeper.wait_for("is lost to this worker")
            found = site.wait(ticket.run)
            assert second.alive() and sleeper.alive()
        assert "Traceback" not in sleeper.text
    assert (found["status"], found["fence"]) == ("FINISHED", fence + 1)
    site.same(ticket.run, other, weights)


@pytest.mark.parametrize(
    ("number", "group"),
    [
        (signal.SIGINT, True),
        pytest.param(signal.SIGTERM, True, marks=pytest.mark.full),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.full),
    ],
)
def test_a_worker_told_to_stop_puts_its_run_back(site: Site, number: signal.Signals, group: bool) -> None:
    """To the worker alone, as from `kill`; to its whole group, as from Ctrl-C or a service manager."""
    site.environment |= {"SEGMENT_STEPS": "1000", "CHECKPOINT_STEPS": "1000"}
    spec = site.spec(24, pause=0.2)
    other, weights = site.undisturbed(spec)
    with Worker(site).ready() as worker:
        ticket = site.submit(spec)
        site.wait(ticket.run, until=lambda r: (r.get("live_step") or 0) >= 3)
        if group:
            os.killpg(worker.process.pid, number)
        else:
            os.kill(worker.process.pid, number)
        assert worker.process.wait(60) == 0
    found = site.look(ticket.run)
    assert (found["status"], found["attempts"]) == ("QUEUED", 0)
    assert 0 < found["position"] < 24
    with Worker(site):
        site.wait(ticket.run)
    site.same(ticket.run, other, weights)
