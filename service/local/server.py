"""The embedded Neo4j of a data folder: started on first need, found and reused, stopped on request or when idle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gradtrace.service.local import bolt, launch, leases, state
from gradtrace.service.local.home import Home
from gradtrace.service.local.process import Identity
from gradtrace.service.local.state import State
from gradtrace.tracer.errors import StoreError, StoreUnreachableError

_IDLE = 900.0
_WATCHDOG_SECONDS = 2.0


@dataclass(frozen=True)
class ServerInfo:
    """A running server and how to reach it.

    Attributes:
        uri: a Bolt address.
        user, password: credentials; the password is not part of the repr.
        pid: the server's process; 0 for a server that gradtrace did not start.
        data: the data folder.
        version: Neo4j's version.
        log: the server's log.
    """

    uri: str
    user: str
    password: str = field(repr=False)
    pid: int
    data: Path
    version: str
    log: Path


def ensure_server(
    data: Path | None = None,
    *,
    progress: bool = True,
    start: bool = True,
    idle: float | None = None,
    lasting: bool = False,
) -> ServerInfo:
    """Give the server of a data folder, started if need be.

    The first call on a machine fetches Neo4j. Several processes may call this at once: one starts the server, the
    others wait and use the same. A server that nobody uses stops by itself after a while: hold `in_use` around work.

    Args:
        data: the data folder; `default_data()` if None.
        progress: whether to tell on stderr what takes long.
        start: whether to start a server that does not run.
        idle: seconds without use after which a server started here stops, 0 for never; the environment variable
            `GRADTRACE_IDLE`, or 15 minutes, if None.
        lasting: whether a server started here is to be fast in the long run rather than at once.

    Raises:
        StoreUnreachableError: it does not run and `start` is false, it did not come up, or it hangs.
        StoreLockedError: the store is open in a process that cannot be reached.
        StoreFilesError: Neo4j's files could not be fetched or are not the ones expected.
        StoreAuthError: the password file is lost or wrong.
        StoreError: a folder cannot be written.

    Example:
        >>> info = ensure_server()                                              # doctest: +SKIP
        >>> with in_use(info), GraphDatabase.driver(info.uri, auth=(info.user, info.password)) as driver:
        ...     driver.execute_query("RETURN 1")
    """
    home = Home.of(data)
    seconds = _idle_seconds(idle)
    if not start and not home.path.is_dir():
        raise _not_running(home)
    home.prepare()
    with home.locked():
        found = state.running(home)
        if found is not None:
            try:
                found = launch.make_ready(home, found, launch.ANSWER_WAIT if found.ready else launch.START_WAIT)
                found = launch.watched(home, found, seconds)
            except StoreUnreachableError:
                if found.server.alive():
                    raise
                found = None  # it ended before our eyes
        if found is None:
            if not start:
                raise _not_running(home)
            found = launch.start(home, seconds, lasting=lasting, progress=progress)
        leases.touch(home)
        return _info(home, found)


def stop_server(data: Path | None = None) -> bool:
    """Stop the server of a data folder, whoever uses it, and wait until it has ended.

    Returns:
        False if none was running.
    """
    home = Home.of(data)
    if not home.path.is_dir():
        return False
    with home.locked():
        found = state.running(home)
        servers = [found.server] if found is not None else launch.strays(home)
        watchdog = found.watchdog if found is not None else None
        if watchdog is not None:
            watchdog.terminate()
        for server in servers:
            launch.end(home, server)
        if watchdog is not None:
            watchdog.wait(_WATCHDOG_SECONDS)  # it has nothing left to do; so it is reaped with us
        state.forget(home)
        return bool(servers)


def server_status(data: Path | None = None) -> ServerInfo | None:
    """The server of a data folder if its process runs, else None. Does not count as a use."""
    home = Home.of(data)
    found = state.running(home)
    return None if found is None else _info(home, found)


def server_clients(data: Path | None = None) -> list[int]:
    """Numbers of the processes that hold the server of a data folder by `in_use`."""
    return sorted({holder.pid for holder in leases.holders(Home.of(data))})


@contextmanager
def in_use(info: ServerInfo) -> Iterator[None]:
    """Keep a server from being stopped as idle while the body runs, however long that takes.

    The hold ends with the process, even if it is killed. It does not outlast `stop_server`.

    Raises:
        StoreUnreachableError: the server has been stopped since.
    """
    if info.pid == 0:  # not ours to stop
        yield
        return
    home = Home.of(info.data)
    with home.locked():
        found = state.running(home)
        if found is None or found.server.pid != info.pid:
            raise _not_running(home)
        lease = leases.take(home)
    try:
        yield
    finally:
        leases.give_back(home, lease)


def stop_if_idle(home: Home, server: Identity, seen: int) -> bool:
    """For the watchdog: stop the server unless it was used since `leases.last_use` gave `seen`, or is held.

    Returns:
        Whether it runs no more.
    """
    with home.locked():
        if not server.alive():
            return True
        if leases.last_use(home) != seen or leases.holders(home):
            return False
        launch.end(home, server)
        return True


def _info(home: Home, found: State) -> ServerInfo:
    return ServerInfo(
        uri=found.uri,
        user=bolt.USER,
        password=bolt.read_password(home),
        pid=found.server.pid,
        data=home.data,
        version=found.version,
        log=home.log,
    )


def _idle_seconds(idle: float | None) -> float:
    if idle is not None:
        return idle
    named = os.environ.get("GRADTRACE_IDLE")
    if not named:
        return _IDLE
    try:
        return float(named)
    except ValueError:
        raise StoreError(
            f"GRADTRACE_IDLE is {named!r}, expected a number of seconds after which an unused server stops (0: never)."
        ) from None


def _not_running(home: Home) -> StoreUnreachableError:
    return StoreUnreachableError(
        f"No server runs for the data folder {home.data}. Start it with `gradtrace db start`, or name the right folder "
        f"by the environment variable GRADTRACE_DATA."
    )
