"""The process beside a server that stops it when nobody uses it: `python -m gradtrace.service.local.watchdog`.

It also sees to the class-data archive (archive.py) while the server runs. It ends with its server.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType

import psutil

from gradtrace.service.local import leases
from gradtrace.service.local.archive import Archiving
from gradtrace.service.local.home import Home
from gradtrace.service.local.process import Identity
from gradtrace.service.local.server import stop_if_idle

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
    archiving = Archiving(home)
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
