"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from neo4j import Driver, GraphDatabase

from gradtrace.service.local import ServerInfo


@pytest.fixture
def driver(clean_store: ServerInfo) -> Iterator[Driver]:
    """A plain driver on the empty store."""
    with GraphDatabase.driver(clean_store.uri, auth=(clean_store.user, clean_store.password)) as driver:
        yield driver
