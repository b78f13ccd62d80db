"""The password of a server that gradtrace itself has just started."""

from __future__ import annotations

import time
from collections.abc import Callable

from neo4j import GraphDatabase
from neo4j.exceptions import AuthError, DriverError, Neo4jError

from gradtrace.tracer.errors import StoreAuthError

_FIRST_PASSWORD = "neo4j"  # of every new Neo4j, good for nothing but setting another
_RETRY = 0.2


def settle_password(uri: str, user: str, password: str, hopeful: Callable[[], bool]) -> bool:
    """Make a running server accept this password, and wait until its database takes queries.

    Safe to repeat: how far a killed process had come is found out by asking the server.

    Args:
        uri: the server's address.
        user: whose password.
        password: the one to be accepted from now on.
        hopeful: whether to go on trying.

    Returns:
        False if the database did not become available while there was hope.

    Raises:
        StoreAuthError: the server accepts neither this password nor a new server's first one.
    """
    while hopeful():
        try:
            try:
                _ask(uri, user, password)
            except AuthError:
                _set_first(uri, user, password)
                _ask(uri, user, password)
            return True
        except AuthError as error:
            raise StoreAuthError(
                f"The server at {uri} refuses the password of the user {user}, expected the one that gradtrace keeps."
            ) from error
        except (DriverError, Neo4jError):  # it may refuse for a moment after its start
            time.sleep(_RETRY)
    return False


def _ask(uri: str, user: str, password: str) -> None:
    with GraphDatabase.driver(uri, auth=(user, password), max_transaction_retry_time=0) as driver:
        driver.execute_query("RETURN 1", database_="neo4j")


def _set_first(uri: str, user: str, password: str) -> None:
    with GraphDatabase.driver(uri, auth=(user, _FIRST_PASSWORD), max_transaction_retry_time=0) as driver:
        driver.execute_query(
            "ALTER CURRENT USER SET PASSWORD FROM $old TO $new",
            {"old": _FIRST_PASSWORD, "new": password},
            database_="system",
        )
