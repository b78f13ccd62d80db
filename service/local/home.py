"""A data folder: where its parts lie, and how they are written.

<data>/neo4j/           the server's home, readable by its owner alone
    server.json         which process serves it (state.py)
    password            the generated password
    server.lock         held while a process starts or stops the server
    last-use, leases/   who uses it (leases.py)
    conf/ data/ logs/   Neo4j's own
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from gradtrace.tracer.errors import StoreError, StoreLockedError

_LOCK_WAIT = 600.0


def default_data() -> Path:
    """The data folder used where none is named: `GRADTRACE_DATA`, or the user's data folder for gradtrace."""
    named = os.environ.get("GRADTRACE_DATA")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("gradtrace", appauthor=False))


@dataclass(frozen=True)
class Home:
    """The server's part of a data folder.

    Attributes:
        data: the data folder, absolute.
    """

    data: Path

    @classmethod
    def of(cls, data: Path | None) -> Self:
        """The home in this data folder, or in the default one."""
        return cls(Path(data).expanduser().absolute() if data is not None else default_data())

    @property
    def path(self) -> Path:
        return self.data / "neo4j"

    @property
    def state(self) -> Path:
        return self.path / "server.json"

    @property
    def password(self) -> Path:
        return self.path / "password"

    @property
    def lock(self) -> Path:
        return self.path / "server.lock"

    @property
    def last_use(self) -> Path:
        return self.path / "last-use"

    @property
    def leases(self) -> Path:
        return self.path / "leases"

    @property
    def conf(self) -> Path:
        return self.path / "conf"

    @property
    def databases(self) -> Path:
        return self.path / "data" / "databases"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def log(self) -> Path:
        """Neo4j's log for users."""
        return self.logs / "neo4j.log"

    @property
    def console(self) -> Path:
        """What the server's process prints, mostly nothing."""
        return self.logs / "console.log"

    @property
    def classes(self) -> Path:
        """List of the classes that the server loaded, for the class-data archive."""
        return self.path / "classes.list"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            StoreError: they cannot be made or written.
        """
        with self.writing():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.leases, self.conf, self.logs, self.path / "data"):
                folder.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "not readable and writable for this user", str(self.path))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a failed write into an error that says what to do."""
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"Cannot write the data folder {self.data}: {error.strerror or error}"
                f"{f' ({error.filename})' if error.filename else ''}. Free some space or make it writable, or name "
                f"another folder by the environment variable GRADTRACE_DATA."
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from starting, stopping or looking for the server.

        Raises:
            StoreLockedError: another process has held the lock for ten minutes.
            StoreError: the lock file cannot be written.
        """
        lock = FileLock(self.lock, timeout=_LOCK_WAIT, mode=0o600)
        try:
            with self.writing():
                lock.acquire()
        except Timeout as error:
            raise StoreLockedError(
                f"Another process has been starting or stopping the server of {self.data} for {_LOCK_WAIT:.0f} s. "
                f"Look for a hung gradtrace process, end it, and try again."
            ) from error
        try:
            yield
        finally:
            lock.release()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads; readers see the old one or the new one, whole, even after a power cut."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
