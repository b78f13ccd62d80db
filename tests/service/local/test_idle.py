"""A server that nobody uses stops; one that somebody holds does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from neo4j import GraphDatabase

from gradtrace.service.local import (
    ServerInfo,
    ensure_server,
    in_use,
    java,
    server_clients,
    server_status,
    stop_server,
)
from gradtrace.service.local.archive import Archiving
from gradtrace.service.local.home import Home
from gradtrace.service.local.state import read_state
from gradtrace.tracer.errors import StoreError, StoreUnreachableError
from tests.service.local.support import ask, linked_cache, python, until

IDLE = 1.0

HOLD = """
import sys
from pathlib import Path
from gradtrace.service.local import ensure_server, in_use
with in_use(ensure_server(Path(sys.argv[1]), start=False)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop_server(tmp_path)


def _still_runs(info: ServerInfo, seconds: float = 2.5 * IDLE) -> bool:
    time.sleep(seconds)
    found = server_status(info.data)
    return found is not None and found.pid == info.pid


def test_an_unused_server_stops_and_a_held_one_does_not(data: Path) -> None:
    info = ensure_server(data, progress=False, idle=IDLE)
    with in_use(info):
        first = read_state(Home(data))
        assert first is not None and first.watchdog is not None
        first.watchdog.kill()  # a server must not stay for ever because its watchdog was killed
        assert first.watchdog.wait(30)
        assert ensure_server(data, progress=False, idle=IDLE) == info
        state = read_state(Home(data))
        assert state is not None and state.watchdog is not None and state.watchdog != first.watchdog
        assert _still_runs(info)
    with GraphDatabase.driver(info.uri, auth=(info.user, info.password)) as driver:  # held by a connection alone
        driver.verify_connectivity()
        assert _still_runs(info)
    ensure_server(data, start=False)
    holder = python(HOLD, str(data))
    assert holder.stdout is not None and holder.stdout.readline() == "held\n", holder.communicate()
    assert server_clients(data) == [holder.pid]
    assert _still_runs(info)
    holder.kill()  # its lease stays behind, and counts no more
    holder.communicate()
    assert until(lambda: server_status(data) is None)
    assert state.watchdog.wait(30), "the watchdog ends with its server"
    assert not Home(data).state.exists() and server_clients(data) == []
    with pytest.raises(StoreUnreachableError), in_use(info):
        pass


def test_idle_time_must_be_a_number(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_IDLE", "a while")
    with pytest.raises(StoreError, match="GRADTRACE_IDLE is 'a while', expected a number of seconds"):
        ensure_server(data)


def test_a_server_not_ours_is_never_held(tmp_path: Path) -> None:
    foreign = ServerInfo(
        uri="bolt://db.example", user="neo4j", password="secret", pid=0, data=tmp_path, version="", log=tmp_path
    )
    with in_use(foreign):
        assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_the_archive_is_made_and_used(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linked_cache(data / "cache")
    monkeypatch.setenv("GRADTRACE_CACHE", str(data / "cache"))
    home = Home(data)
    ensure_server(data, progress=False, idle=0)
    few = home.classes.with_name("few")
    few.write_text("".join(home.classes.read_text().splitlines(keepends=True)[:500]))  # all 20,000 take half a minute
    few.replace(home.classes)
    making = Archiving(home)
    making.advance()
    other = Archiving(home)
    other.advance()
    assert other.over and not making.over, "one at a time"
    while not making.over:
        making.advance()
        time.sleep(0.1)
    assert java.archive().is_file() and not list(java.archive().parent.glob("*.part"))
    stop_server(data)
    info = ensure_server(data, progress=False)
    maps = Path(f"/proc/{info.pid}/maps")
    if maps.exists():  # Linux tells which files a process has mapped
        assert str(java.archive()) in maps.read_text()
    assert ask(info, "RETURN 1") == [[1]]
