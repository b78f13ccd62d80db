"""The state file: which process serves a data folder, and where it listens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from gradtrace.service.local.home import Home, write_private
from gradtrace.service.local.process import Identity
from gradtrace.tracer.errors import StoreLockedError

_FORMAT = 1


@dataclass(frozen=True)
class State:
    """What the state file says.

    Attributes:
        server: the server's process.
        port: its Bolt port on the loopback interface.
        version: Neo4j's version.
        ready: whether it has answered with the generated password.
        watchdog: the process that stops it when idle, if there is one.
    """

    server: Identity
    port: int
    version: str
    ready: bool = False
    watchdog: Identity | None = None

    @property
    def uri(self) -> str:
        return f"bolt://127.0.0.1:{self.port}"

    def write(self, home: Home) -> State:
        """Write the state file, and return this state."""
        with home.writing():
            write_private(home.state, json.dumps({"format": _FORMAT, **asdict(self)}, indent=1) + "\n")
        return self


def read_state(home: Home) -> State | None:
    """What the state file says; None if there is none, or none that makes sense.

    Raises:
        StoreLockedError: it belongs to another user.
    """
    try:
        found = json.loads(home.state.read_text("utf-8"))
        if found["format"] != _FORMAT:
            return None
        server, watchdog = _identity(found["server"]), found["watchdog"]
        port, version, ready = found["port"], found["version"], found["ready"]
        if not (isinstance(port, int) and 0 < port < 65536 and isinstance(version, str) and isinstance(ready, bool)):
            return None
        return State(server, port, version, ready, None if watchdog is None else _identity(watchdog))
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # ValueError: neither UTF-8 nor JSON
        return None
    except PermissionError as error:
        raise StoreLockedError(
            f"The data folder {home.data} belongs to another user: {error.filename} cannot be read. Use another data "
            f"folder (environment variable GRADTRACE_DATA), or have its owner give you the folder."
        ) from error


def running(home: Home) -> State | None:
    """The state, if the server that it names runs; a stale or torn file counts as none."""
    state = read_state(home)
    return state if state is not None and state.server.alive() else None


def forget(home: Home) -> None:
    """Remove the state file."""
    with home.writing():
        home.state.unlink(missing_ok=True)


def _identity(found: dict[str, object]) -> Identity:
    pid, birth = found["pid"], found["birth"]
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0 or not isinstance(birth, str):
        raise ValueError(f"no process: {found}")
    return Identity(pid, birth)
