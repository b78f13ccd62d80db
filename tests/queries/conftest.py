"""A store filled through the real sink with every odd run of `worlds`, once a module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from neo4j import Driver, GraphDatabase

from gradtrace.queries import Library
from gradtrace.service.store.sink import Neo4jSink
from tests.queries.worlds import Run, all_runs

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo


@contextmanager
def connected(server: ServerInfo) -> Iterator[Driver]:
    """A driver to the test server."""
    with GraphDatabase.driver(server.uri, auth=(server.user, server.password)) as driver:
        yield driver


def store(server: ServerInfo, runs: Mapping[str, Run]) -> None:
    """Write runs through the real sink."""
    with closing(Neo4jSink(server.uri, server.user, server.password)) as sink:
        for run in runs.values():
            sink.open_run(run.record)
            for step in run.steps:
                sink.write(step)
            sink.flush()
            if run.status is not None:
                sink.close_run(run.record.id, run.status, run.reason)


def emptied(driver: Driver) -> None:
    """Remove every node of the test server's database."""
    driver.execute_query("MATCH (n) DETACH DELETE n", database_="neo4j")


def _holdings(driver: Driver) -> tuple[int, int]:
    """How many nodes and relationships the store holds."""
    text = "MATCH (n) WITH count(n) AS nodes MATCH ()-[r]->() RETURN nodes, count(r) AS relationships"
    record = driver.execute_query(text, database_="neo4j").records
    return (record[0][0], record[0][1]) if record else (0, 0)


_written: list[tuple[int, int]] = []  # what the store held when the runs had been written


@pytest.fixture(scope="module")
def filled(neo4j_server: ServerInfo) -> Iterator[Driver]:
    """The test server with the runs of `worlds` and nothing else; modules that come in a row share it as it is."""
    with connected(neo4j_server) as driver:
        if [_holdings(driver)] != _written:
            emptied(driver)
            store(neo4j_server, all_runs())
            _written[:] = [_holdings(driver)]
        yield driver


@pytest.fixture(scope="module")
def library(filled: Driver) -> Library:
    """The library over these runs."""
    return Library(filled)
