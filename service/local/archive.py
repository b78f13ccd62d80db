"""The class-data archive: the server's classes, parsed beforehand, so that later starts take about half the time.

It is made once per machine and Neo4j version, by a child process at the lowest priority, from the list of classes that
a running server has loaded. Java ignores an archive that does not fit its flags, class path or runtime.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from gradtrace.service.local import java
from gradtrace.service.local.home import Home
from gradtrace.service.local.jars import ensure_jars, neo4j_folder
from gradtrace.tracer.errors import GradtraceError


class Archiving:
    """The making of the archive, to be looked at from time to time.

    Args:
        home: of the server whose classes are taken.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._child: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._lock = FileLock(neo4j_folder() / "archive.lock", timeout=0)
        self.over = java.archive().is_file() or not home.classes.is_file()

    def advance(self) -> None:
        """Begin, or take in what has ended; nothing once it is `over`."""
        if self.over:
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
        self.over = True
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
            for left_over in neo4j_folder().glob("classes-*.part"):
                left_over.unlink(missing_ok=True)
            listed = self._whole_list()
        except (Timeout, OSError, GradtraceError):
            self.over = True  # the server does without
            return
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

    def _whole_list(self) -> Path:
        """A copy of the list, which the server is still writing, without a last line that is not whole."""
        whole, _, _ = self._home.classes.read_bytes().rpartition(b"\n")
        listed = self._home.classes.with_suffix(".whole")
        listed.write_bytes(whole + b"\n")
        return listed
