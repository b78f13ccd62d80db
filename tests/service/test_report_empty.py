"""A report on a store with the schema and nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from gradtrace.queries import Library
from gradtrace.queries.schema import ensure_schema
from gradtrace.service.report import gather
from gradtrace.tracer.errors import ReportError
from tests.queries.conftest import connected, emptied

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo


@pytest.fixture(scope="module")
def library(neo4j_server: ServerInfo) -> Iterator[Library]:
    """The library over an empty store."""
    with connected(neo4j_server) as driver:
        emptied(driver)
        ensure_schema(driver)
        yield Library(driver)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ((), "The store holds no run with traced steps. .*`gradtrace run` makes one"),
        (("x",), "The store holds no run 'x'. "),
    ],
)
def test_an_empty_store_has_nothing_to_report(library: Library, runs: tuple[str, ...], said: str) -> None:
    with pytest.raises(ReportError, match=said):
        gather(library, runs)
