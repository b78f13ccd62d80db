"""Does it answer, and with which password: the few words that the embedded server is spoken to here."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradtrace.service.local.home import Home, write_private
from gradtrace.tracer.errors import StoreAuthError

if TYPE_CHECKING:
    from neo4j import Driver

USER = "neo4j"
_FIRST_PASSWORD = "neo4j"  # of every new Neo4j, good for nothing but setting another
_HELLO = bytes.fromhex("6060B017") + bytes.fromhex("00000805 00000000 00000000 00000000".replace(" ", ""))
_RETRY = 0.2


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


def settle_password(uri: str, home: Home, hopeful: Callable[[], bool]) -> bool:
    """Make the running server accept the generated password, and wait until its database takes queries.

    Safe to repeat: whatever a killed process had done is found out by asking the server.

    Args:
        uri: the server's address.
        home: where the password lies.
        hopeful: whether to go on trying.

    Returns:
        False if it did not become available while there was hope.

    Raises:
        StoreAuthError: the server accepts neither the generated password nor a new server's first one.
    """
    from neo4j.exceptions import AuthError, DriverError, Neo4jError

    password = read_password(home)
    while hopeful():
        try:
            try:
                _ask(uri, password)
            except AuthError:
                _set_first(uri, password)
                _ask(uri, password)
            return True
        except AuthError as error:
            raise StoreAuthError(
                f"The database in {home.path} refuses the password in {home.password}. If that file was changed, "
                f"restore it from a backup; if the data may go, stop the server and remove the folder {home.path}."
            ) from error
        except (DriverError, Neo4jError):  # it may refuse for a moment after its start, or after failed tries
            time.sleep(_RETRY)
    return False


def _ask(uri: str, password: str) -> None:
    with _driver(uri, password) as driver:
        driver.execute_query("RETURN 1", database_="neo4j")


def _set_first(uri: str, password: str) -> None:
    with _driver(uri, _FIRST_PASSWORD) as driver:
        driver.execute_query(
            "ALTER CURRENT USER SET PASSWORD FROM $old TO $new",
            {"old": _FIRST_PASSWORD, "new": password},
            database_="system",
        )


@contextmanager
def _driver(uri: str, password: str) -> Iterator[Driver]:
    from neo4j import GraphDatabase

    with GraphDatabase.driver(
        uri, auth=(USER, password), connection_timeout=10, max_transaction_retry_time=0
    ) as driver:
        yield driver
