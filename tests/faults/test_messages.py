"""Hostile messages through the broker itself: each is refused with a line in the log, and the worker goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import redis

from gradtrace.service.jobs.gate import RefusedMessageError, checked, ticket_in
from gradtrace.service.jobs.limits import CONTROL, QUEUE
from gradtrace.service.store.jobs import Ticket
from tests.faults.harness import Site, Worker
from tests.faults.messages import good, hostile


def test_hostile_messages_are_refused(site: Site, tmp_path: Path) -> None:
    trap = tmp_path / "unpickled"
    messages = list(hostile(str(trap)))
    assert len(messages) >= 200
    with Worker(site).ready() as worker, redis.Redis.from_url(site.valkey.url) as client:
        child = site.submit(site.spec(2))
        site.wait(child.run)
        before = worker.text.count("was dropped")
        for _, data in messages:
            client.rpush(QUEUE, data)
        for _, data in messages[::5]:
            client.rpush(CONTROL, data)
        deadline = time.monotonic() + 120
        while client.llen(QUEUE) + client.llen(CONTROL):
            assert worker.alive(), worker.text
            assert time.monotonic() < deadline
            time.sleep(0.1)
        good_one = site.submit(site.spec(4))
        assert site.wait(good_one.run)["status"] == "FINISHED"
        assert worker.alive()
        text = worker.text
    # Those that are well-formed tickets of a run that does not exist come to the store, which knows none.
    formed = [data for _, data in messages if ticket_in(data)]
    assert len(formed) < 10
    assert text.count("was dropped") - before >= len(messages) - len(formed) + len(messages[::5])
    assert "the store holds no such run" in text
    assert not trap.exists()
    assert max(map(len, text.splitlines())) < 1000  # no message's own words fill the log
    runs = site.ask("MATCH (r:Run) RETURN r.id AS id")
    assert {r["id"] for r in runs} == {child.run, good_one.run}


HOSTILE_RECORDS: list[tuple[dict[str, str], str]] = [
    ({"spec": '{"workload": "no-such-workload"}'}, "no-such-workload"),
    ({"spec": '{"workload": "os.system"}'}, "os.system"),
    ({"spec": '{"workload": "tests.faults.building:go_wrong"}'}, "tests.faults.building"),
    ({"spec": '{"workload": "fault-net", "threads": "many"}'}, "threads"),
    ({"spec": '{"workload": "fault-net", "parameters": {"steps": 1e400}}'}, "steps"),
    ({"spec": "../../etc/passwd"}, "JSON"),
    ({"spec": "[" * 100_000}, "JSON"),
    ({"checkpoint": "../../../etc/passwd"}, "is no name of a checkpoint"),
    ({"checkpoint": "/etc/passwd"}, "is no name of a checkpoint"),
]
"""What somebody with access to the store might put into the record of a run, and a word of the reason for which it fails."""


def test_hostile_records_fail_by_themselves(site: Site) -> None:
    """The ticket is good; what is wrong is the spec that it leads to, or the name of the checkpoint."""
    with Worker(site).ready() as worker:
        runs = []
        for given, _ in HOSTILE_RECORDS:
            ticket = site.submit(site.spec(4), queue=False)
            site.ask("MATCH (r:Run {id: $run}) SET r += $given", run=ticket.run, given=given)
            site.put(ticket)
            runs.append(ticket.run)
        for run, (given, words) in zip(runs, HOSTILE_RECORDS, strict=True):
            found = site.wait(run)
            assert found["status"] == "FAILED", given
            assert words in found["reason"] and len(found["reason"]) < 1000, (given, found["reason"])
            assert site.steps(run) == [] and not (site.checkpoints / run).exists()
        good_one = site.submit(site.spec(4))
        assert site.wait(good_one.run)["status"] == "FINISHED"
        assert worker.alive()
        assert "Traceback" not in worker.text
        assert max(map(len, worker.text.splitlines())) < 2000


def test_the_gate_lets_tickets_through_without_their_headers() -> None:
    message = good("some-run.1", 3)
    message["headers"] |= {"timelimit": [1e9, 1e9], "eta": "2099-01-01T00:00:00", "shadow": "other", "retries": 99}
    made = checked(json.loads(json.dumps(message)), QUEUE)
    assert ticket_in(json.dumps(made)) == Ticket("some-run.1", 3)
    assert made["headers"]["timelimit"] == [None, None] and made["headers"]["eta"] is None
    assert made["headers"]["shadow"] is None and made["headers"]["retries"] == 0


def test_the_gate_alone_refuses(tmp_path: Path) -> None:
    """The same messages, without a broker: whatever is JSON is refused by one kind of error, or a harmless ticket."""
    for what, data in hostile(str(tmp_path / "unpickled"), seed=11):
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            continue
        try:
            made = checked(message, QUEUE)
        except RefusedMessageError as error:
            assert 0 < len(str(error)) < 250, what
        else:
            assert ticket_in(json.dumps(made)) is not None, what
    assert not (tmp_path / "unpickled").exists()
