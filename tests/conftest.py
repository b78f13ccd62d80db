"""Fixtures that tests of several parts share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests import side_by_side

# No test asserts a time: on a busy machine an example may take long.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo
    from gradtrace.service.local.valkey import ValkeyInfo


def pytest_configure(config: pytest.Config) -> None:
    """Before tests in several processes begin, do once what each of them would do."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        side_by_side.prepare()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured: what one prints itself is lost where it runs in another process."""
    reports = (r for r in terminalreporter.getreports("passed") if r.when == "call")
    for line in (f"{r.nodeid}: {value}" for r in reports for name, value in r.user_properties if name == "measured"):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """One real Neo4j for the whole test session, on a data folder of its own.

    Where GRADTRACE_TEST_NEO4J_URI (with _USER and _PASSWORD) is set, that server serves instead; `clean_store` empties
    it, so never name one that holds anything.
    """
    from gradtrace.service.local import ServerInfo, ensure_server, in_use, stop_server

    uri = os.environ.get("GRADTRACE_TEST_NEO4J_URI")
    if uri:
        user = os.environ.get("GRADTRACE_TEST_NEO4J_USER", "neo4j")
        password = os.environ.get("GRADTRACE_TEST_NEO4J_PASSWORD", "")
        yield ServerInfo(uri=uri, user=user, password=password, pid=0, data=Path(), version="", log=Path())
        return
    data = tmp_path_factory.mktemp("neo4j-server")
    try:
        info = ensure_server(data, idle=60)  # so that a killed test session leaves no server behind for long
        with in_use(info):
            yield info
    finally:
        stop_server(data)


@pytest.fixture
def clean_store(neo4j_server: ServerInfo) -> ServerInfo:
    """The session's server with an empty database: no nodes, no constraints, no indexes of ours."""
    from neo4j import GraphDatabase

    with GraphDatabase.driver(neo4j_server.uri, auth=(neo4j_server.user, neo4j_server.password)) as driver:
        with driver.session(database="neo4j") as session:
            session.run("MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS").consume()
        for (name,) in driver.execute_query("SHOW CONSTRAINTS YIELD name", database_="neo4j").records:
            driver.execute_query(f"DROP CONSTRAINT `{name}`", database_="neo4j")
        for (name,) in driver.execute_query(
            "SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name", database_="neo4j"
        ).records:
            driver.execute_query(f"DROP INDEX `{name}`", database_="neo4j")
    return neo4j_server


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyInfo]:
    """One real Valkey for the whole test session, on a data folder of its own; its address is `valkey_server.url`."""
    from gradtrace.service.local.valkey import start_valkey, stop_valkey

    data = tmp_path_factory.mktemp("valkey-server")
    try:
        yield start_valkey(data)
    finally:
        stop_valkey(data)
