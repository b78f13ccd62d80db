"""The process behind `gradtrace up`: `python -m gradtrace.service.local.supervisor DATA NAME:COMMAND...`.

It keeps the embedded servers and the worker alive: whatever ends without being asked to is started again, at growing
intervals if it ends at once. While it lives, the embedded Neo4j is held in use and does not stop as idle. SIGTERM ends the
kept processes politely and then this one, without waiting for them; `upkeep.stop` waits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gradtrace.service.local import ensure_server, in_use, server_status
from gradtrace.service.local.process import Identity, adopt, identify
from gradtrace.service.local.upkeep_home import SUPERVISOR, UpkeepHome
from gradtrace.service.local.valkey import start_valkey, valkey_status
from gradtrace.tracer.errors import GradtraceError

log = logging.getLogger("gradtrace.up")

CHILD = "gradtrace.service.local.child"
LOOK = 0.5
_LONGEST_PAUSE = 60.0
_JOIN = 2.0
_STEADY = 60.0
"""A process that ran for so long is started again at once when it ends."""


class Kept:
    """One process to be kept.

    Args:
        home: of all of them.
        name: what it is called.
        command: arguments of `gradtrace`.
    """

    def __init__(self, home: UpkeepHome, name: str, command: list[str]) -> None:
        self.home, self.name, self.command = home, name, command
        self._process: Identity | None = home.process(name)  # of a supervisor that was killed
        self._began = self._not_before = 0.0
        self._failures = 0

    def look(self) -> None:
        """Start the process if it does not run and its pause is over."""
        now = time.monotonic()
        if self._process is not None:
            if self._process.alive():
                return
            steady = now - self._began >= _STEADY
            self._failures = 0 if steady else self._failures + 1
            self._not_before = now if steady else now + min(2.0**self._failures, _LONGEST_PAUSE)
            log.warning(
                "%s (process %d) has ended; it is started again%s",
                self.name,
                self._process.pid,
                "" if steady else f" in {self._not_before - now:.0f} s",
            )
            self._process = None
        if now >= self._not_before:
            self._start()

    def end(self) -> None:
        """Ask the process to end."""
        if self._process is not None:
            self._process.terminate()

    def _start(self) -> None:
        with self.home.turn_log(self.name).open("ab") as out:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", CHILD, str(self.home.data), self.name, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self.home.path,
                start_new_session=True,
            )
        self._process = adopt(child)
        self._began = time.monotonic()
        log.info("%s started: process %d", self.name, child.pid)


class Neo4jKept:
    """The embedded Neo4j of a data folder, held in use."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._pid = 0
        self._held = contextlib.ExitStack()

    def look(self) -> None:
        """Start the server if it does not run, and hold it."""
        found = server_status(self._data)
        if found is not None and found.pid == self._pid:
            return
        self.end()
        if self._pid:
            log.warning("The embedded Neo4j (process %d) has ended; it is started again", self._pid)
        info = ensure_server(self._data, progress=False, lasting=True)
        self._held.enter_context(in_use(info))
        self._pid = info.pid
        log.info("Neo4j: process %d at %s", info.pid, info.uri)

    def end(self) -> None:
        """Let go of the server; it stays up."""
        self._held.close()


class ValkeyKept:
    """The embedded Valkey of a data folder."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def look(self) -> None:
        """Start the server if it does not run."""
        if valkey_status(self._data) is None:
            info = start_valkey(self._data)
            log.info("Valkey: process %d at port %d", info.pid, info.port)

    def end(self) -> None:
        """Nothing: it stays up."""


def keep(home: UpkeepHome, duties: list[Kept | Neo4jKept | ValkeyKept], over: threading.Event) -> None:
    """See to all duties, each in a thread of its own, until `over` is set; then end them."""

    def loop(look: Callable[[], None]) -> None:
        pause = LOOK
        while not over.wait(pause):
            try:
                look()
                pause = LOOK
            except (GradtraceError, OSError) as error:
                pause = min(max(pause * 2, 1.0), _LONGEST_PAUSE)
                log.error("%s; the next attempt is in %.0f s", error, pause)

    threads = [threading.Thread(target=loop, args=(duty.look,), daemon=True) for duty in duties]
    for thread in threads:
        thread.start()
    over.wait()
    for thread in threads:
        thread.join(timeout=_JOIN)  # so that none of them starts a process after the others were ended
    for duty in duties:
        duty.end()


def main(arguments: list[str]) -> int:
    """Keep what the arguments name: a data folder, `neo4j` and `valkey` if they are embedded, and NAME:COMMAND pairs."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%F %T"
    )
    home = UpkeepHome.of(Path(arguments[0]))
    duties: list[Kept | Neo4jKept | ValkeyKept] = []
    for argument in arguments[1:]:
        if argument == "neo4j":
            duties.append(Neo4jKept(home.data))
        elif argument == "valkey":
            duties.append(ValkeyKept(home.data))
        else:
            name, _, command = argument.partition(":")
            duties.append(Kept(home, name, shlex.split(command)))
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    me = identify(os.getpid())
    assert me is not None, "this process runs"
    home.note(SUPERVISOR, me)
    keep(home, duties, over)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
