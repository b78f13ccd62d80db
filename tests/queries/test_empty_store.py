"""Every question over a store with the schema and nothing in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from gradtrace.queries import Library, registry
from gradtrace.queries.schema import ensure_schema
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


@pytest.mark.parametrize("name", list(registry()))
def test_an_empty_store_gives_empty_answers(library: Library, name: str) -> None:
    question = registry()[name]
    given = {
        k: v
        for k, v in {"component": "embed", "parameter": "p", "experiment": "default", "hyperparameter": "lr"}.items()
        if k in question.parameters
    }
    answer = library.run(name, **given)
    assert answer.columns == tuple(question.columns)
    if name == "store-size":
        assert {row["count"] for row in answer.rows if row["kind"] == "relationship"} == {0}
        return
    assert answer.rows == []
    if "run" in question.parameters:
        assert answer.notes[0].endswith("the store holds no such steps yet.")
    if question.subgraph:
        nothing = library.subgraph(name, **given)
        assert nothing.nodes == nothing.relationships == [] and not nothing.truncated


def test_nothing_to_complete_in_an_empty_store(library: Library) -> None:
    assert library.complete("graph-at-step", "run") == library.complete("graph-at-step", "step") == []
