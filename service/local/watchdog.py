"""The process beside a server that stops it when nobody uses it: `python -m gradtrace.service.local.watchdog`.

It also writes the class-data archive, once per machine, at the lowest priority while the server runs: later starts then
take half the time. It ends with its server.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import psutil
from filelock import FileLock, Timeout

from gradtrace.service.local import java, leases
from gradtrace.service.local.home import Home
from gradtrace.service.local.jars import ensure_jars, neo4j_folder
from gradtrace.service.local.process import Identity
from gradtrace.service.local.server import stop_if_idle
from gradtrace.tracer.errors import GradtraceError

_ARCHIVE_AFTER = 30.0
_SHORTEST_LOOK, _LONGEST_LOOK = 0.25, 5.0


def main(arguments: list[str]) -> int:
    """Watch the server named by data folder, pid, birth, port and seconds of idleness, until it has ended."""
    data, pid, birth, port, idle = arguments
    signal.signal(signal.SIGTERM, _leave)
    home = Home.of(Path(data))
    server = Identity(int(pid), birth)
    watch(home, server, int(port), float(idle))
    return 0


def watch(home: Home, server: Identity, port: int, idle: float) -> None:
    """Return when the server has ended, by itself or because it was idle so long."""
    began = used = time.monotonic()  # not the time of day, which may jump
    seen = leases.last_use(home)
    look = min(max(idle / 4, _SHORTEST_LOOK), _LONGEST_LOOK)
    archiving = _Archiving(home)
    try:
        while server.alive():
            now = time.monotonic()
            if leases.last_use(home) != seen or leases.holders(home):
                seen, used = leases.last_use(home), now
            elif now - used >= idle:
                if _connected(server, port):
                    used = now
                elif stop_if_idle(home, server, seen):
                    return
            if now - began >= _ARCHIVE_AFTER:
                archiving.advance()
            time.sleep(look)
    finally:
        archiving.end()


class _Archiving:
    """The archive's making: a child process beside the watch."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._child: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._lock = FileLock(neo4j_folder() / "archive.lock", timeout=0)
        self._over = java.archive().is_file() or not home.classes.is_file()

    def advance(self) -> None:
        """Begin, or take in what has ended."""
        if self._over:
            return
        if self._child is None:
            self._begin()
        elif (code := self._child.poll()) is not None:
            if code == 0 and self._scratch is not None and self._scratch.is_file():
                os.replace(self._scratch, java.archive())
                self._home.classes.unlink(missing_ok=True)
            self.end()

    def end(self) -> None:
        """Give up what is not finished, and clean up."""
        self._over = True
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        if self._scratch is not None:
            self._scratch.unlink(missing_ok=True)
        self._lock.release()

    def _begin(self) -> None:
        try:
            self._lock.acquire()  # one at a time per cache
            jars = ensure_jars(progress=False)
        except (Timeout, OSError, GradtraceError):
            self._over = True
            return
        for left_over in neo4j_folder().glob("classes-*.part"):
            left_over.unlink(missing_ok=True)
        # The server is still writing the list: leave out a last line that is not whole.
        whole, _, _ = self._home.classes.read_bytes().rpartition(b"\n")
        listed = self._home.classes.with_suffix(".whole")
        listed.write_bytes(whole + b"\n")
        self._scratch = java.archive().with_suffix(f".{os.getpid()}.part")
        self._child = subprocess.Popen(
            java.archive_command(listed, jars, self._scratch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=java.environment(),
        )
        with contextlib.suppress(psutil.Error):
            psutil.Process(self._child.pid).nice(19)


def _connected(server: Identity, port: int) -> bool:
    """Whether a client has a connection open, lease or not."""
    try:
        connections = psutil.Process(server.pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in connections)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
