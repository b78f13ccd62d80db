"""The part of a data folder that belongs to `gradtrace up`: who keeps its processes, and what they print.

<data>/up/              readable by its owner alone
    supervisor.json     the process that keeps the others (supervisor.py)
    worker.json ...     each process that it keeps
    server.lock         held while a process starts or stops them
    logs/               what each of them prints
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from gradtrace.service.local.home import Home, write_private
from gradtrace.service.local.process import Identity

SUPERVISOR = "supervisor"
_LONG_LOG = 10_000_000


@dataclass(frozen=True)
class UpkeepHome(Home):
    """The home of the kept processes in a data folder."""

    @property
    def path(self) -> Path:
        return self.data / "up"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            StoreError: they cannot be made or written.
        """
        with self.writing():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "not readable and writable for this user", str(self.path))

    def process_file(self, name: str) -> Path:
        """Where the process of that name notes who it is."""
        return self.path / f"{name}.json"

    def log_of(self, name: str) -> Path:
        """What the process of that name prints."""
        return self.logs / f"{name}.log"

    def note(self, name: str, process: Identity) -> None:
        """Note which process has this name."""
        with self.writing():
            write_private(self.process_file(name), json.dumps({"pid": process.pid, "birth": process.birth}) + "\n")

    def process(self, name: str) -> Identity | None:
        """The process of that name if it runs; a torn or stale file counts as none."""
        try:
            found = json.loads(self.process_file(name).read_text("utf-8"))
            identity = Identity(int(found["pid"]), str(found["birth"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return identity if identity.pid > 0 and identity.alive() else None

    def forget(self, name: str) -> None:
        """Note that no process has this name."""
        with self.writing():
            self.process_file(name).unlink(missing_ok=True)

    def turn_log(self, name: str) -> Path:
        """The log to append to; a long one is put aside first."""
        path = self.log_of(name)
        with self.writing():
            if path.exists() and path.stat().st_size > _LONG_LOG:
                path.replace(path.with_suffix(".log.1"))
        return path

    def last_lines(self, name: str, count: int = 12) -> str:
        """The end of the log of that name, indented for an error message."""
        path = self.log_of(name)
        lines = path.read_text("utf-8", "replace").splitlines()[-count:] if path.exists() else []
        return "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
