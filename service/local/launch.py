"""Starting and ending the server's process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from gradtrace.service.local import bolt, java, state
from gradtrace.service.local.home import Home
from gradtrace.service.local.jars import NEO4J_VERSION, cache_folder, ensure_jars
from gradtrace.service.local.process import Identity, adopt, find_by_argument
from gradtrace.service.local.progress import Progress, megabytes
from gradtrace.service.local.state import State
from gradtrace.tracer.errors import StoreAuthError, StoreLockedError, StoreUnreachableError

START_WAIT = 300.0
"""Seconds until a start counts as failed; recovery after a crash of a large store may take minutes."""
ANSWER_WAIT = 20.0
"""Seconds until a server that once was ready counts as hung."""
STOP_WAIT = 60.0
_PORT_ATTEMPTS = 3
_RELEASE_WAIT = 3.0
_POLL = 0.05
_QUOTED_LINES = 8
_LITTLE_SPACE = 300_000_000

_SETTINGS = """\
# Written by gradtrace at every start; changes here are lost.
server.bolt.listen_address=127.0.0.1:{port}
server.bolt.advertised_address=127.0.0.1:{port}
server.http.enabled=false
dbms.usage_report.enabled=false
dbms.security.auth_enabled=true
server.memory.pagecache.size=128m
db.tx_log.rotation.retention_policy=100M size
internal.server.bolt.thread_pool_shutdown_wait_time=1s
"""


class _PortTakenError(StoreUnreachableError):
    """Another process took the port between our look and the server's start."""


def start(home: Home, idle: float, *, lasting: bool, progress: bool) -> State:
    """Start the server of this home, whose lock the caller holds, and wait until it answers with its password.

    Raises:
        StoreLockedError: a process that the state file does not name has the store open.
        StoreUnreachableError: the server ended, or did not answer in time; its log is quoted.
        StoreFilesError, StoreAuthError, StoreError: as `ensure_jars`, `settle_password` and the disk say.
    """
    refuse_if_open(home)
    jars = ensure_jars(progress=progress)
    bolt.make_password(home)
    began = time.monotonic()
    if progress:
        Progress.line(f"Starting Neo4j {NEO4J_VERSION} in {home.path} ...")
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        try:
            found = _launch(home, jars, idle, lasting=lasting)
            break
        except _PortTakenError:
            if attempt == _PORT_ATTEMPTS:
                raise
    if progress:
        stops = f"; it stops after {idle:.0f} s without use" if idle > 0 else ""
        Progress.line(f"Neo4j is ready after {time.monotonic() - began:.1f} s{stops}.")
    return found


def _launch(home: Home, jars: list[Path], idle: float, *, lasting: bool) -> State:
    port = bolt.free_port()
    with home.writing():
        (home.conf / "neo4j.conf").write_text(_SETTINGS.format(port=port), "utf-8")
        home.log.unlink(missing_ok=True)  # so that what a failed start says is this start's; debug.log keeps all
        console = home.console.open("wb")
    with console:
        child = subprocess.Popen(
            java.server_command(home, jars, lasting=lasting),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            cwd=home.path,
            env=java.environment(),
            start_new_session=True,  # a Ctrl-C in the terminal is not meant for it
        )
    try:
        found = State(adopt(child), port, NEO4J_VERSION).write(home)
    except BaseException:
        child.kill()  # nobody would find it again
        raise
    return make_ready(home, watched(home, found, idle), START_WAIT)


def watched(home: Home, found: State, idle: float) -> State:
    """Give the server a watchdog if it has none, and note that in the state file."""
    if idle <= 0 or (found.watchdog is not None and found.watchdog.alive()):
        return found
    with home.writing(), (home.logs / "watchdog.log").open("ab") as log:
        child = subprocess.Popen(
            [
                sys.executable,
                "-P",  # never import from the folder that the user happens to be in
                "-m",
                "gradtrace.service.local.watchdog",
                str(home.data),
                str(found.server.pid),
                found.server.birth,
                str(found.port),
                str(idle),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home.path,
            env={**os.environ, "GRADTRACE_CACHE": str(cache_folder())},  # which may be named relative to our folder
            start_new_session=True,
        )
    return replace(found, watchdog=adopt(child)).write(home)


def make_ready(home: Home, found: State, wait: float) -> State:
    """Wait until the server answers, see to its password, and note in the state file that it is ready."""
    deadline = time.monotonic() + wait
    while not bolt.answers(found.port):
        if not found.server.alive():
            state.forget(home)
            text = _logged(home)
            if "locked by another process" in text:
                refuse_if_open(home)
            error = failure(home, "ended while starting")
            raise _PortTakenError(str(error)) if "already in use" in text else error
        if time.monotonic() >= deadline:
            raise failure(
                home, f"(process {found.server.pid}) has not answered for {wait:.0f} s; `gradtrace db stop` ends it"
            )
        time.sleep(_POLL)
    if found.ready:
        return found
    # Here and not above: it loads Neo4j's driver, which the reuse of a server does not need.
    from gradtrace.service.store.accounts import settle_password

    try:
        settled = settle_password(
            found.uri, bolt.USER, bolt.read_password(home), lambda: found.server.alive() and time.monotonic() < deadline
        )
    except StoreAuthError as error:
        raise StoreAuthError(
            f"The database in {home.path} refuses the password in {home.password}. If that file was changed, restore "
            f"it from a backup; if the data may go, stop the server (`gradtrace db stop`) and remove that folder."
        ) from error
    if not settled:
        raise failure(home, f"(process {found.server.pid}) answers, but its database did not become available")
    return replace(found, ready=True).write(home)


def end(home: Home, server: Identity) -> None:
    """End the server's process: politely, and after a minute by force (its store survives that)."""
    server.terminate()
    if not server.wait(STOP_WAIT):
        server.kill()
        server.wait(STOP_WAIT)
    state.forget(home)


def strays(home: Home) -> list[Identity]:
    """Server processes of this home, whatever the state file says."""
    return find_by_argument(java.home_argument(home))


def refuse_if_open(home: Home) -> None:
    """Raise StoreLockedError if any process has the store open, and goes on to have it.

    A process that was killed counts as ended while the system still closes its files, hence the patience.
    """
    deadline = time.monotonic() + _RELEASE_WAIT
    while (found := strays(home)) or _store_locked(home):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL)
    else:
        return
    who = f"process {', '.join(str(one.pid) for one in found)}" if found else "a process that cannot be seen from here"
    raise StoreLockedError(
        f"The database in {home.path} is open in {who}, but {home.state.name} there does not say how to reach it. "
        + (
            "End it with `gradtrace db stop` and try again."
            if found
            else "It may belong to another user, container or machine: stop it there, or use another data folder "
            "(environment variable GRADTRACE_DATA)."
        )
    )


def _store_locked(home: Home) -> bool:
    """Whether Neo4j's own lock on the store is held."""
    try:
        import fcntl
    except ImportError:  # not on Windows; there the start itself fails
        return False
    try:
        with (home.databases / "store_lock").open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except PermissionError as error:
        raise StoreLockedError(
            f"The database in {home.path} belongs to another user: {error.filename} cannot be opened for writing. Use "
            f"another data folder (environment variable GRADTRACE_DATA), or have its owner give you the folder."
        ) from error
    return False


def failure(home: Home, what: str) -> StoreUnreachableError:
    """The error for a server that does not come up, with the end of its log."""
    lines = _logged(home).splitlines()[-_QUOTED_LINES:]
    quoted = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
    free = shutil.disk_usage(home.path).free
    space = f"Only {megabytes(free)} are free on that disk, which may be the reason. " if free < _LITTLE_SPACE else ""
    return StoreUnreachableError(
        f"The embedded Neo4j {what}. The end of its log ({home.log}):\n{quoted}\n"
        f"{space}More is in {home.logs / 'debug.log'}. See to the reason and try again; a server of your own can be "
        f"used by GRADTRACE_NEO4J_URI."
    )


def _logged(home: Home) -> str:
    text = []
    for path in (home.log, home.console):
        if path.exists():
            text.append(path.read_text("utf-8", "replace"))
    return "".join(text)
