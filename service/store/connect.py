"""Find the store and connect to it: what the caller names, else what the settings name, else the embedded server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from neo4j import Driver, GraphDatabase

from gradtrace.queries.schema import ensure_schema
from gradtrace.service.local import ServerInfo, ensure_server, in_use
from gradtrace.service.settings import load_settings
from gradtrace.service.store.driver_errors import translated
from gradtrace.tracer.errors import StoreAuthError, StoreError

RETRY_SECONDS = 30.0
_RETRY_DELAY = 0.1  # doubled with each try; writers that met on a young graph go on soon
_CONNECT_SECONDS = 5.0
_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
_EMBEDDED_SECONDS = 8.0  # a dead embedded server comes back at another address: look for it soon


def _no_retry_notice(record: logging.LogRecord) -> bool:
    """Let everything pass but the driver's notice that it tries a transaction again: what fails for good is raised."""
    return not record.msg.startswith("Transaction failed and will be retried")


logging.getLogger("neo4j.session").addFilter(_no_retry_notice)


@dataclass
class Store:
    """A connected store with the schema of this version. Close it, or use it in a `with` block.

    Attributes:
        uri: address, without credentials.
        database: name of the database; None for the one that the server gives this user.
        driver: the driver; safe to share between threads.
        server: the embedded server, held in use meanwhile; None for any other.
    """

    uri: str
    database: str | None
    driver: Driver = field(repr=False)
    server: ServerInfo | None = None
    _held: ExitStack = field(default_factory=ExitStack, repr=False)
    _reopen: Callable[[ServerInfo], Store] | None = field(default=None, repr=False)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find_again(self) -> bool:
        """After the embedded server went away: start it or find it anew, and connect to it at its new address.

        Returns:
            Whether there is a new connection; False for a server that is not ours, and for one that never went away.
        """
        if self.server is None or self._reopen is None:
            return False
        found = ensure_server(self.server.data, progress=False)
        if found.pid == self.server.pid:
            return False
        new, old = self._reopen(found), self._held
        self.uri, self.driver, self.server, self._held = new.uri, new.driver, new.server, new._held
        old.close()
        return True

    def close(self) -> None:
        """Close the connections; let the embedded server stop when nobody else uses it."""
        self._held.close()


def connect(
    uri: str | None = None,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
    *,
    retry_seconds: float = RETRY_SECONDS,
    progress: bool = True,
    schema: bool = True,
) -> Store:
    """Connect to the store, and see that it answers and has the schema of this version.

    Args:
        uri: `bolt://host:7687` or the like; if None, the setting `GRADTRACE_NEO4J_URI`; if that is not set, the
            embedded server, which is started if need be.
        user, password, database: if None, the settings `GRADTRACE_NEO4J_USER`, `_PASSWORD` and `_DATABASE`.
        retry_seconds: how long one transaction is tried again while the server is away or busy.
        progress: whether to tell on stderr what starting the embedded server does.
        schema: False leaves the schema as it is.

    Raises:
        StoreUnreachableError: nothing answers there.
        StoreAuthError: it refuses the credentials, or there are none.
        StoreSchemaError: its schema is newer than this version, or was changed.
        SpecError: a setting is malformed.

    Example:
        >>> with connect() as store:                                            # doctest: +SKIP
        ...     store.driver.execute_query("MATCH (r:Run) RETURN r.id")
    """
    settings = load_settings()
    uri = uri or settings.neo4j_uri
    database = database or settings.neo4j_database
    if uri is None:
        info = ensure_server(settings.data, progress=progress, idle=settings.idle)
        return _embedded(info, database or "neo4j", retry_seconds, schema)
    if password is None and settings.neo4j_password is not None:
        password = settings.neo4j_password.get_secret_value()
    if password is None:
        raise StoreAuthError(f"There is no password for the store at {uri}. Set GRADTRACE_NEO4J_PASSWORD.")
    return _open(uri, user or settings.neo4j_user, password, database, retry_seconds, schema, None)


def open_store(
    uri: str,
    user: str,
    password: str,
    database: str | None = "neo4j",
    *,
    retry_seconds: float = RETRY_SECONDS,
) -> Store:
    """Connect to a store whose address and credentials are known; settings play no part. Errors as with `connect`."""
    return _open(uri, user, password, database, retry_seconds, True, None)


def _embedded(info: ServerInfo, database: str, retry_seconds: float, schema: bool) -> Store:
    seconds = min(retry_seconds, _EMBEDDED_SECONDS)
    store = _open(info.uri, info.user, info.password, database, seconds, schema, info)
    store._reopen = lambda found: _embedded(found, database, retry_seconds, schema)
    return store


def _open(
    uri: str,
    user: str,
    password: str,
    database: str | None,
    retry_seconds: float,
    schema: bool,
    server: ServerInfo | None,
) -> Store:
    if uri.partition("://")[0] not in _SCHEMES:
        known = ", ".join(_SCHEMES)
        raise StoreError(f"{uri!r} is no address of a store; it begins with one of {known}, as in bolt://host:7687.")
    with ExitStack() as held, translated("connecting", f"the store at {uri}"):
        if server is not None:
            held.enter_context(in_use(server))
        driver = held.enter_context(
            GraphDatabase.driver(
                uri,
                auth=(user, password),
                max_transaction_retry_time=retry_seconds,
                initial_retry_delay=_RETRY_DELAY,
                connection_timeout=_CONNECT_SECONDS,
                connection_acquisition_timeout=max(retry_seconds, 2 * _CONNECT_SECONDS),
                notifications_min_severity="OFF",
                user_agent="gradtrace",
            )
        )
        driver.verify_connectivity()
        if schema:
            ensure_schema(driver, database)
        return Store(uri, database, driver, server, held.pop_all())
