"""Does it answer, and with which password."""

from __future__ import annotations

import secrets
import socket

from gradtrace.service.local.home import Home, write_private
from gradtrace.tracer.errors import StoreAuthError

USER = "neo4j"
_HELLO = bytes.fromhex("6060B017") + bytes.fromhex("00000805 00000000 00000000 00000000".replace(" ", ""))


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answers(port: int, timeout: float = 2.0) -> bool:
    """Whether something that speaks Bolt answers at this port of the loopback interface."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
            sock.sendall(_HELLO)
            return len(sock.recv(4)) == 4
    except OSError:
        return False


def read_password(home: Home) -> str:
    """The generated password.

    Raises:
        StoreAuthError: its file is missing or empty.
    """
    try:
        password = home.password.read_text("utf-8").strip()
    except FileNotFoundError:
        password = ""
    if not password:
        raise StoreAuthError(
            f"The file {home.password}, which holds the password of this data folder's database, is missing or empty. "
            f"Restore it from a backup; or, if the data may go, stop the server and remove the folder {home.path}."
        )
    return password


def make_password(home: Home) -> str:
    """The password of a database that is about to be started; generated before the database exists, never after."""
    if not home.password.exists() and not (home.databases / "system").exists():
        with home.writing():
            write_private(home.password, secrets.token_urlsafe(24) + "\n")
    return read_password(home)
