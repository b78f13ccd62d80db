"""What goes wrong with the store, and what the caller is told; nothing is lost in silence."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from neo4j import Driver, GraphDatabase

from gradtrace.service.local import ServerInfo, ensure_server, stop_server
from gradtrace.service.store import Neo4jSink, connect
from gradtrace.service.store.steps import write_steps
from gradtrace.service.store.structure import MissingStructureError
from gradtrace.tracer.errors import (
    SinkClosedError,
    SinkError,
    SinkFullError,
    StoreAuthError,
    StoreError,
    StoreSchemaError,
    StoreUnreachableError,
    UnknownGraphError,
)
from gradtrace.tracer.sinks import JsonlSink, Sink, read_jsonl
from tests.forwarder import Forwarder
from tests.same import same
from tests.service.store.readback import address, ask, assert_whole
from tests.synthetic import run_record, step_trace


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port on which nothing listens, and nothing will while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_wrong_password(clean_store: ServerInfo) -> None:
    with pytest.raises(StoreAuthError, match="GRADTRACE_NEO4J_PASSWORD") as caught:
        Neo4jSink(clean_store.uri, clean_store.user, "not-the-passw0rd")
    assert "not-the-passw0rd" not in str(caught.value)


def test_a_dead_port(dead_port: int) -> None:
    with pytest.raises(StoreUnreachableError, match=f"127.0.0.1:{dead_port}"):
        Neo4jSink(f"bolt://127.0.0.1:{dead_port}", "neo4j", "x", retry_seconds=1)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:7687", "127.0.0.1:7687", "bolt://", "bolt://127.0.0.1:port"])
def test_an_address_that_is_none(uri: str) -> None:
    with pytest.raises(StoreError, match=r"bolt://host:7687|Nothing answers"):
        Neo4jSink(uri, "neo4j", "x", retry_seconds=1)


def test_a_store_of_a_newer_version(clean_store: ServerInfo, driver: Driver) -> None:
    Neo4jSink(*address(clean_store)).close()
    ask(
        driver,
        "MATCH (m:Migration) WITH max(m.number) AS n CREATE (:Migration {number: n + 1, name: '?', checksum: '?'})",
    )
    with pytest.raises(StoreSchemaError, match="Upgrade gradtrace"):
        Neo4jSink(*address(clean_store))


def test_connect_takes_settings_and_keeps_the_secret(
    clean_store: ServerInfo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GRADTRACE_SETTINGS", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GRADTRACE_NEO4J_URI", clean_store.uri)
    monkeypatch.setenv("GRADTRACE_NEO4J_USER", clean_store.user)
    monkeypatch.setenv("GRADTRACE_NEO4J_PASSWORD", clean_store.password)
    with caplog.at_level(logging.DEBUG, "gradtrace"), connect() as store, Neo4jSink.on(store) as sink:
        sink.write(step_trace("r", 0))
        sink.flush()
        assert store.server is None and clean_store.password not in repr(store) + repr(sink) + str(sink)
    assert clean_store.password not in caplog.text
    monkeypatch.setenv("GRADTRACE_NEO4J_PASSWORD", "pl4nted-secret")
    with pytest.raises(StoreAuthError) as caught:
        connect()
    shown: BaseException | None = caught.value
    while shown is not None:
        assert "pl4nted-secret" not in str(shown) + repr(shown)
        shown = shown.__cause__
    monkeypatch.delenv("GRADTRACE_NEO4J_PASSWORD")
    with pytest.raises(StoreAuthError, match="no password"):
        connect()


def test_an_unknown_fingerprint(clean_store: ServerInfo, driver: Driver) -> None:
    """The writer of steps refuses a step whose graph is not there, and leaves nothing of the batch behind."""
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(run_record("r"))
        sink.write(step_trace("r", 0))
        sink.flush()
        with driver.session(database="neo4j") as session:
            with pytest.raises(UnknownGraphError, match=step_trace("r", 1, structure=7).traces[0].graph.fingerprint):
                session.execute_write(write_steps, [step_trace("r", 1), step_trace("r", 2, structure=7)])
            ask(driver, "MATCH (p:Path) WITH p LIMIT 1 DETACH DELETE p")
            with pytest.raises(MissingStructureError, match=r"1 of .* Path nodes"):
                session.execute_write(write_steps, [replace(step_trace("r", 0), step=5)])
            with pytest.raises(StoreError, match="no run 'nobody'"):
                session.execute_write(write_steps, [step_trace("nobody", 0)])
    assert ask(driver, "MATCH (s:Step) RETURN s.step") == [0]


def test_what_was_removed_meanwhile_is_written_again(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", n, novelty=0.0) for n in range(4)]
    with Neo4jSink(*address(clean_store)) as sink:
        sink.write(steps[0])
        sink.flush()
        ask(driver, "MATCH (n) WHERE n:Path OR n:Route OR n:Graph OR n:Vertex OR n:Step OR n:Trace DETACH DELETE n")
        for step in steps[1:]:
            sink.write(step)
        assert sink.flush() == 4
    assert_whole(driver, "r", steps[1:])


def test_a_refused_step_keeps_no_other_back(clean_store: ServerInfo, driver: Driver) -> None:
    good, bad = step_trace("r", 0), step_trace("r", 1)
    routes = (replace(bad.traces[0].routes[0], route=("no such component",)), *bad.traces[0].routes[1:])
    bad = replace(bad, traces=(replace(bad.traces[0], routes=routes),))
    sink = Neo4jSink(*address(clean_store))
    for step in (good, bad, step_trace("r", 2)):
        sink.write(step)
    with pytest.raises(StoreError, match=r"Step 1 of run 'r' was refused and is not stored: .*does a route name"):
        sink.flush()
    assert sink.flush() == 2 and [s.step for s, _ in sink.refused] == [1]
    sink.close()
    assert_whole(driver, "r", [good, step_trace("r", 2)])


def test_malformed_steps_are_refused_at_once(clean_store: ServerInfo) -> None:
    step = step_trace("r", 0)
    short = replace(step, traces=(replace(step.traces[0], flow=step.traces[0].flow[:-1]),))
    with Neo4jSink(*address(clean_store)) as sink:
        assert isinstance(sink, Sink)
        with pytest.raises(SinkError, match="flow has shape"):
            sink.write(short)
        with pytest.raises(SinkError, match="holds no trace"):
            sink.write(replace(step, traces=()))
        with pytest.raises(ValueError, match="FINISHED"):
            sink.close_run("r", "DONE")
        assert sink.flush() == 0
    with pytest.raises(SinkClosedError):
        sink.write(step)
    with pytest.raises(SinkClosedError):
        sink.flush()


@pytest.mark.parametrize(
    "wrong",
    [{"batch_steps": 0}, {"queue_steps": 0}, {"queue_timeout": -1}, {"linger_seconds": -1}, {"on_full": "drop"}],
)
def test_options_are_checked_first(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Neo4jSink("bolt://127.0.0.1:1", "neo4j", "x", **wrong)  # type: ignore[arg-type]


def test_a_full_queue(clean_store: ServerInfo, driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    """The run is locked by another transaction, so that the writer waits and the queue fills."""
    for on_full, timeout in (("raise", 60.0), ("block", 0.2)):
        run = f"run-{on_full}"
        sink = Neo4jSink(*address(clean_store), queue_steps=3, batch_steps=1, on_full=on_full, queue_timeout=timeout)
        sink.open_run(run_record(run))
        with driver.session(database="neo4j") as session, session.begin_transaction() as holder:
            holder.run("MATCH (r:Run {id: $run}) SET r.lock = 'held'", run=run).consume()
            with caplog.at_level(logging.WARNING, "gradtrace"):
                for n in range(3):
                    sink.write(step_trace(run, n))
                for _ in range(2):
                    with pytest.raises(SinkFullError, match="3 steps wait, and this one was not taken"):
                        sink.write(step_trace(run, 3))
            assert [s.step for s in sink.unsent] == [0, 1, 2]
            holder.rollback()
        assert sink.flush() == 3
        sink.write(step_trace(run, 3))
        sink.close()
        assert_whole(driver, run, [step_trace(run, n) for n in range(4)])
    said = [r for r in caplog.records if "training waits for the store" in r.message]
    assert len(said) == 1  # once, and only where it waits


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerInfo]:
    """A server of the test's own, to be killed."""
    data = tmp_path / "data"
    try:
        yield ensure_server(data, progress=False)
    finally:
        stop_server(data)


def _kill(server: ServerInfo) -> None:
    process = psutil.Process(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    process.wait(30)


@pytest.fixture
def gate(own_server: ServerInfo) -> Iterator[Forwarder]:
    """The test's own server behind a fixed address."""
    gate = Forwarder(own_server.uri)
    yield gate
    gate.close()


@pytest.mark.full
def test_kill_of_the_server_in_mid_write(own_server: ServerInfo, gate: Forwarder, tmp_path: Path) -> None:
    """Killed while steps are on their way: the sink says so, keeps them, and goes on when the server is back."""
    steps = [step_trace("r", n, novelty=0.2) for n in range(24)]
    sink = Neo4jSink(gate.uri, own_server.user, own_server.password, batch_steps=3, retry_seconds=2)
    sink.open_run(run_record("r"))
    for step in steps[:3]:
        sink.write(step)
    assert sink.flush() == 3
    for step in steps[3:20]:
        sink.write(step)
    _kill(own_server)
    gate.target = None
    with pytest.raises(StoreUnreachableError, match="steps are not stored; they are kept"):
        sink.flush()
    with pytest.raises(StoreUnreachableError):
        sink.close()  # it stays open, for there are steps left
    waiting = sink.unsent
    assert waiting and [s.step for s in waiting] == list(range(20 - len(waiting), 20))
    with JsonlSink(tmp_path / "rescued.jsonl") as rescue:  # what a user can do who will not wait
        for step in waiting:
            rescue.write(step)
    assert all(same(a, b) for a, b in zip(read_jsonl(tmp_path / "rescued.jsonl").of("r"), waiting, strict=True))
    sink.write(steps[20])  # the error was told; this makes the writer try again
    with pytest.raises(StoreUnreachableError, match="This step was taken"):
        while True:
            sink.write(steps[21])
            threading.Event().wait(0.2)
    again = ensure_server(own_server.data, progress=False)
    gate.target = int(again.uri.rsplit(":", 1)[1])
    assert sink.flush() == 22
    for step in steps[22:]:
        sink.write(step)
    sink.close_run("r", "FINISHED")
    sink.close()
    with GraphDatabase.driver(again.uri, auth=(again.user, again.password)) as driver:
        assert_whole(driver, "r", steps)
        assert ask(driver, "MATCH (r:Run) RETURN r.status, r.steps") == [["FINISHED", 24]]


@pytest.mark.full
def test_a_killed_embedded_server_is_found_again(own_server: ServerInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink on the embedded server brings it back by itself, at whatever address."""
    monkeypatch.delenv("GRADTRACE_NEO4J_URI", raising=False)
    monkeypatch.setenv("GRADTRACE_DATA", str(own_server.data))
    steps = [step_trace("r", n, novelty=0.2) for n in range(8)]
    with connect(retry_seconds=1, progress=False) as store:
        assert store.server is not None and store.server.pid == own_server.pid
        with Neo4jSink.on(store, batch_steps=2) as sink:
            for step in steps[:5]:
                sink.write(step)
            _kill(own_server)
            for step in steps[5:]:
                sink.write(step)
            assert sink.flush() == 8
            sink.close_run("r", "FINISHED")
        assert store.server.pid != own_server.pid
        assert_whole(store.driver, "r", steps)


def test_leaving_the_block_names_what_is_lost(own_server: ServerInfo, caplog: pytest.LogCaptureFixture) -> None:
    with (
        pytest.raises(KeyError, match="training broke") as caught,
        Neo4jSink(*address(own_server), retry_seconds=1) as sink,
    ):
        sink.open_run(run_record("r"))
        _kill(own_server)
        sink.write(step_trace("r", 0))
        raise KeyError("training broke")
    assert any("1 steps are not stored" in note for note in caught.value.__notes__)
    assert "1 steps were given up" in caplog.text
