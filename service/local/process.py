"""Processes told apart for certain: a number alone may be reused after its process has died."""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_POLL = 0.05

_children: list[subprocess.Popen[bytes]] = []
"""What this process started and has not yet seen end; they must outlive it, so nobody waits for them."""


@dataclass(frozen=True)
class Identity:
    """A process, past or present.

    Attributes:
        pid: its number.
        birth: when it started, as text to compare for equality only.
    """

    pid: int
    birth: str

    def alive(self) -> bool:
        """Whether this very process runs (one that has ended and is not yet reaped does not)."""
        _reap()
        try:
            return _birth(self.pid) == self.birth and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
            return False

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False if it still runs after so long."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        return True

    def terminate(self) -> None:
        """Ask it to end; nothing happens if it has ended."""
        if self.alive():
            self._signal("terminate")

    def kill(self) -> None:
        """End it at once; nothing happens if it has ended."""
        if self.alive():
            self._signal("kill")

    def _signal(self, how: str) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(psutil.Process(self.pid), how)()


def identify(pid: int) -> Identity | None:
    """The process that has this number now, or None."""
    try:
        return Identity(pid, _birth(pid))
    except (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
        return None


def adopt(child: subprocess.Popen[bytes]) -> Identity:
    """Remember a child that is to outlive this process, and identify it."""
    _children.append(child)
    found = identify(child.pid)
    return found if found is not None else Identity(child.pid, "ended")


def find_by_argument(argument: str) -> list[Identity]:
    """Processes that have this very argument on their command line, as far as this user may see."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if argument in (process.info["cmdline"] or []):
            identity = identify(process.pid)
            if identity is not None and identity.alive():
                found.append(identity)
    return found


@atexit.register
def _let_go() -> None:
    """What outlives us is meant to: keep Popen from warning of it."""
    _reap()
    for child in _children:
        child.returncode = 0


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]


def _birth(pid: int) -> str:
    """Linux counts from the boot, which no clock adjustment moves; elsewhere it is the time of day."""
    boot = _boot()
    if boot:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return f"{boot}:{fields[19]}"
    return f"{psutil.Process(pid).create_time():.2f}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
