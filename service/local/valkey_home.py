"""The Valkey part of a data folder: its files, its configuration, its password.

<data>/valkey/          readable by its owner alone
    server.json         which process serves it (state.py)
    password            the generated password
    valkey.conf         written at every start, the password in it; mode 0600
    port                the port it had last, so that a restarted server is found where it was
    held                locked by the server itself for as long as it lives
    server.lock         held while a process starts or stops the server
    data/ logs/         Valkey's own
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from gradtrace.service.local.home import Home, write_private

MAX_MEMORY = "512mb"
"""What the queue may hold; beyond it Valkey refuses writes (noeviction) instead of eating the machine's memory."""

# appendfsync always: a message is on disk before its sender hears of it. The queue sees a handful of writes a segment,
# so an fsync for each costs nothing that anybody would notice, and neither kill -9 nor a power cut takes one away.
_SETTINGS = """\
# Written by gradtrace at every start; changes here are lost.
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir {folder}
appendonly yes
appendfsync always
save ""
maxmemory {memory}
maxmemory-policy noeviction
daemonize no
set-proc-title no
loglevel notice
logfile ""
"""


@dataclass(frozen=True)
class ValkeyHome(Home):
    """The home of the embedded Valkey in a data folder."""

    @property
    def path(self) -> Path:
        return self.data / "valkey"

    @property
    def configuration(self) -> Path:
        return self.path / "valkey.conf"

    @property
    def port(self) -> Path:
        return self.path / "port"

    @property
    def held(self) -> Path:
        return self.path / "held"

    @property
    def files(self) -> Path:
        """Where the append-only file lies."""
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.logs / "valkey.log"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            StoreError: they cannot be made or written.
        """
        with self.writing():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.files, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "not readable and writable for this user", str(self.path))

    def read_password(self) -> str | None:
        """The password, if there is one yet."""
        try:
            return self.password.read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None

    def make_password(self) -> str:
        """The password of a server about to be started; the data does not depend on it, so a lost one is replaced."""
        found = self.read_password()
        if found is None:
            found = secrets.token_urlsafe(24)
            with self.writing():
                write_private(self.password, found + "\n")
        return found

    def last_port(self) -> int | None:
        """The port that the server had last."""
        try:
            port = int(self.port.read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None
        return port if 0 < port < 65536 else None

    def configure(self, port: int, password: str) -> None:
        """Write the configuration, and note the port."""
        text = _SETTINGS.format(port=port, password=quoted(password), folder=quoted(str(self.files)), memory=MAX_MEMORY)
        with self.writing():
            write_private(self.configuration, text)
            write_private(self.port, f"{port}\n")


def quoted(text: str) -> str:
    r"""A value as Valkey's configuration reads it back, whatever characters it has.

    >>> print(quoted('my "data" folder'))
    "my \x22data\x22 folder"
    """
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in os.fsencode(text))
    return f'"{"".join(plain)}"'
