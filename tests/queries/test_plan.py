"""Plans of queries: through the gate, told operator by operator, and only of what reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from neo4j import Driver

from gradtrace.queries import AsyncLibrary, Library
from gradtrace.queries.plan import EXPLAINED, PROFILED, plan_rows, scans
from gradtrace.queries.schema import ensure_schema
from gradtrace.tracer.errors import QueryError, QueryParameterError, QueryRefusedError, QueryTimeoutError
from tests.queries.conftest import connected, emptied

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

WRITING = ("CREATE (n:Planted)", "MATCH (n) DETACH DELETE n", "LOAD CSV FROM 'file:///x' AS l RETURN l", "SHOW USERS")


@pytest.fixture(scope="module")
def driver(neo4j_server: ServerInfo) -> Iterator[Driver]:
    with connected(neo4j_server) as driver:
        emptied(driver)
        ensure_schema(driver)
        driver.execute_query("UNWIND range(1, 20) AS n CREATE (:Run {id: 'r' + n})", database_="neo4j")
        yield driver


@pytest.fixture(scope="module")
def library(driver: Driver) -> Library:
    return Library(driver)


def test_a_plan_from_the_answer_to_where_the_search_starts(library: Library) -> None:
    answer = library.explain("MATCH (r:Run {id: $run}) RETURN r.id AS run", {"run": "r3"})
    assert answer.columns == EXPLAINED and [tuple(row) for row in answer.rows] == [EXPLAINED] * len(answer.rows)
    names = answer.column("operator")
    assert names[0] == "ProduceResults" and names[-1].startswith("NodeUniqueIndexSeek")
    assert "r:Run(id)" in answer.rows[-1]["details"] and answer.notes == ()
    assert all(row["depth"] == 0 and row["estimated_rows"] >= 0 for row in answer.rows)


def test_a_profile_counts_what_was_done(library: Library) -> None:
    answer = library.profile("MATCH (r:Run) RETURN r.id AS run")
    assert answer.columns == PROFILED
    assert answer.rows[0]["rows"] == answer.rows[-1]["rows"] == 20
    hits = sum(row["db_hits"] for row in answer.rows)
    assert hits >= 20
    assert answer.notes == (
        f"20 rows, {hits} accesses to the database.",
        "It reads all of a kind: NodeByLabelScan r:Run. Start from a key or an index.",
    )


def test_branches_stand_between_an_operator_and_its_rows() -> None:
    def node(name: str, *children: dict[str, object]) -> dict[str, object]:
        return {
            "operatorType": f"{name}@neo4j",
            "args": {"Details": " a\n b ", "DbHits": 2},
            "children": list(children),
        }

    plan = node("Produce", node("Apply", node("Seek"), node("Sum", node("Expand", node("Argument")))))
    rows = plan_rows(plan, ran=True)
    assert [(row["operator"], row["depth"]) for row in rows] == [
        ("Produce", 0), ("Apply", 0), ("Sum", 1), ("Expand", 1), ("Argument", 1), ("Seek", 0),
    ]  # fmt: skip
    assert rows[0] == {
        "operator": "Produce", "depth": 0, "details": "a b", "estimated_rows": 0.0, "rows": None, "db_hits": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("AllNodesScan", True),
        ("NodeByLabelScan", True),
        ("PartitionedNodeByLabelScan", True),
        ("DirectedRelationshipTypeScan", True),
        ("UndirectedAllRelationshipsScan", True),
        ("NodeIndexScan", True),
        ("NodeIndexSeek", False),
        ("NodeUniqueIndexSeek(Locking)", False),
        ("Expand(All)", False),
    ],
)
def test_scans_are_told_from_seeks(name: str, found: bool) -> None:
    plan = {"operatorType": "Top@neo4j", "children": [{"operatorType": f"{name}@neo4j", "args": {"Details": "x"}}]}
    assert scans(plan) == ([f"{name} x"] if found else [])


@pytest.mark.parametrize("text", WRITING)
def test_what_is_not_reading_is_refused_and_not_run(library: Library, text: str) -> None:
    for ask in (library.explain, library.profile):
        with pytest.raises(QueryRefusedError, match="Refused"):
            ask(text)
    assert library.cypher("MATCH (n) WHERE n:Run OR n:Planted RETURN count(n) AS n").rows == [{"n": 20}]


def test_errors_are_those_of_queries(library: Library) -> None:
    with pytest.raises(QueryError, match="not Cypher that the server understands, line 1, column 10"):
        library.profile("MATCH (r RETURN r")
    with pytest.raises(QueryParameterError, match="has no value"):
        library.profile("RETURN $x AS x")
    with pytest.raises(QueryTimeoutError, match=r"longer than its limit of 0\.5 s"):
        library.profile("UNWIND range(1, 1000000000000) AS x RETURN count(x) AS n", timeout=0.5)


def test_plans_in_coroutines(library: Library) -> None:
    lib = AsyncLibrary(library)
    assert asyncio.run(lib.explain("RETURN 1 AS x")).columns == EXPLAINED
    assert asyncio.run(lib.profile("RETURN 1 AS x")).rows[0]["rows"] == 1
