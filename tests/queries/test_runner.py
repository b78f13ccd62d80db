"""Names, limits and failures: what comes back is told in plain words and typed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from neo4j import Driver, GraphDatabase

import gradtrace.queries
from gradtrace.queries import Library, find, registry
from gradtrace.queries.docs import document
from gradtrace.queries.messages import translated
from gradtrace.queries.within import within
from gradtrace.tracer.errors import (
    QueryError,
    QueryParameterError,
    QueryRefusedError,
    QueryTimeoutError,
    StoreAuthError,
    StoreError,
    StoreUnreachableError,
    UnknownQueryError,
)
from tests.queries.conftest import connected, emptied

if TYPE_CHECKING:
    from pathlib import Path

    from gradtrace.service.local import ServerInfo


@pytest.fixture(scope="module")
def driver(neo4j_server: ServerInfo) -> Iterator[Driver]:
    with connected(neo4j_server) as made:
        emptied(made)
        yield made


@pytest.fixture(scope="module")
def library(driver: Driver) -> Library:
    return Library(driver)


def test_public_names() -> None:
    for name in gradtrace.queries.__all__:
        assert getattr(gradtrace.queries, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = gradtrace.queries.Nope


def test_the_registry_needs_no_driver() -> None:
    code = (
        "import sys, json; from gradtrace.queries import registry; names = list(registry());"
        "print(json.dumps([names, [m for m in ('neo4j', 'torch', 'numpy', 'pandas', 'pydantic') if m in sys.modules]]))"
    )
    names, loaded = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert names == list(registry()) and loaded == []


def test_unknown_names_come_with_close_ones(library: Library) -> None:
    with pytest.raises(UnknownQueryError, match="no question 'component-by-epoch'; did you mean components-by-epoch"):
        library.run("component-by-epoch")
    with pytest.raises(UnknownQueryError, match=r"no question 'zzz'\. There are \d+"):
        find("zzz")
    with pytest.raises(QueryParameterError, match="no parameter 'lmit'; did you mean limit"):
        library.run("runs", lmit=3)
    with pytest.raises(QueryParameterError, match=r"no parameter 'x'\. Its parameters: none"):
        library.run("store-size", x=1)
    with pytest.raises(QueryParameterError, match="needs the parameter component"):
        library.run("component-over-time", run="x")
    with pytest.raises(QueryParameterError, match="limit is 'many'; expected a whole number, at least 1"):
        library.run("runs", limit="many")
    with pytest.raises(UnknownQueryError):
        library.subgraph("graph_at_step")
    with pytest.raises(UnknownQueryError):
        list(library.stream("nope"))


def test_questions_are_listed_group_by_group(library: Library) -> None:
    groups = [q.group for q in library.questions()]
    assert groups == sorted(groups, key=["one step", "one run", "many runs", "health", "lookup"].index)
    assert {"components-by-epoch", "component-over-time", "parameter-path", "hottest-edges", "graph-at-step"} <= set(
        registry()
    )
    assert {"dominant-tree", "top-routes", "win-rates", "runs", "run-steps", "dead-parameters", "store-size"} <= set(
        registry()
    )


def test_values_come_back_plain(driver: Driver, library: Library) -> None:
    made = library.cypher(
        "CREATE (a:A:B {x: 1, t: datetime('2026-01-02T03:04:05Z')})-[r:R {y: [1.5]}]->(b:C) RETURN a, r, b", write=True
    )
    assert "nodes created: 2" in made.notes and "relationships created: 1" in made.notes
    row = library.cypher("MATCH p = (a:A)-[r]->(b) RETURN a, r, p, {k: [b]} AS m, date('2026-01-02') AS d").rows[0]
    assert row["a"]["labels"] == ["A", "B"] and row["a"]["properties"]["x"] == 1
    assert row["a"]["properties"]["t"] == datetime.fromisoformat("2026-01-02T03:04:05+00:00")
    assert row["r"] == {
        "id": row["r"]["id"],
        "type": "R",
        "start": row["a"]["id"],
        "end": row["m"]["k"][0]["id"],
        "properties": {"y": [1.5]},
    }
    assert row["p"] == {"nodes": [row["a"], row["m"]["k"][0]], "relationships": [row["r"]]}
    assert row["d"] == date(2026, 1, 2)
    (odd,) = library.cypher("RETURN duration('P1DT2S') AS u, point({x: 1, y: 2}) AS p, 0.0/0.0 AS n, [null] AS l").rows
    assert odd["u"] == "P1DT2S" and "1.0" in odd["p"] and odd["n"] != odd["n"] and odd["l"] == [None]
    emptied(driver)


def test_the_row_cap_says_that_it_cut(library: Library) -> None:
    answer = library.cypher("UNWIND range(1, 1000000000) AS x RETURN x", limit=3)
    assert answer.rows == [{"x": 1}, {"x": 2}, {"x": 3}] and answer.truncated
    assert answer.notes == ("The answer was cut after 3 rows; more were there.",)
    whole = library.cypher("UNWIND range(1, 3) AS x RETURN x", limit=3)
    assert len(whole) == 3 and not whole.truncated and whole.notes == ()
    for wrong in ({"limit": 0}, {"timeout": 0}, {"timeout": -1.0}):
        with pytest.raises(QueryParameterError, match="expected more than 0"):
            library.cypher("RETURN 1 AS x", **wrong)


def test_streaming_takes_rows_as_they_come(library: Library) -> None:
    rows = library.stream_cypher("UNWIND range(1, 1000000000000) AS x RETURN x")
    assert [next(rows)["x"] for _ in range(1200)] == list(range(1, 1201))
    del rows
    with pytest.raises(QueryRefusedError):
        next(library.stream_cypher("CREATE (n)"))
    with pytest.raises(QueryError):
        next(library.stream_cypher("RETRN"))


@pytest.mark.parametrize(
    "text",
    [
        "UNWIND range(1, 1000000000000) AS x RETURN count(x) AS n",
        "UNWIND range(1, 1000000) AS x UNWIND range(1, 1000000) AS y WITH x, y WHERE x + y < 0 RETURN x",
    ],
)
def test_a_runaway_is_stopped(library: Library, text: str) -> None:
    with pytest.raises(QueryTimeoutError, match="longer than its limit of 1 s"):
        library.cypher(text, timeout=1.0)


def test_a_server_deaf_to_its_clock_does_not_hold_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradtrace.queries.within._GRACE", 0.1)
    held = threading.Event()
    with pytest.raises(QueryTimeoutError, match="did not stop when told to"):
        within(held.wait, 0.1)
    held.set()


@pytest.mark.parametrize(
    ("text", "params", "error", "message"),
    [
        ("MATCH (n) RETRN n", {}, QueryError, r"not Cypher that the server understands, line 1, column 11"),
        ("MATCH (n)\nRETRN n", {}, QueryError, "line 2, column 1"),
        ("RETURN $x AS x", {}, QueryParameterError, "has no value: .*x"),
        ("RETURN 1 / 0 AS x", {}, QueryError, "could not run the query: / by zero"),
        ("RETURN $x AS x", {"x": object()}, QueryError, "could not be sent"),
        ("RETURN $x AS x", {"x": 2**70}, QueryError, "could not be sent"),
        ("RETURN undefined AS x", {}, QueryError, "not Cypher .*undefined"),
        ("RETURN toInteger({}) AS x", {}, QueryError, "."),
    ],
)
def test_errors_of_the_server_in_plain_words(
    library: Library, text: str, params: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        library.cypher(text, params)
    assert "{neo4j_code" not in str(caught.value) and "\n" not in str(caught.value)


def test_hints_of_the_server_are_notes(library: Library, capfd: pytest.CaptureFixture[str]) -> None:
    answer = library.cypher("MATCH (n:Stepp) RETURN n.loss AS loss")
    assert answer.rows == [] and any("Stepp" in note for note in answer.notes)
    assert library.run("runs").notes == ()
    assert capfd.readouterr().err == "", "the driver's own log must not reach the terminal"


def test_no_server_no_credentials_no_database(neo4j_server: ServerInfo, driver: Driver) -> None:
    with GraphDatabase.driver("bolt://127.0.0.1:1", auth=("neo4j", "secret-x")) as nobody:
        for ask in (lambda: Library(nobody).run("runs"), lambda: next(Library(nobody).stream("runs"))):
            with pytest.raises(StoreUnreachableError, match=r"does not answer.*gradtrace db start") as caught:
                ask()
            assert "secret-x" not in str(caught.value)
    with pytest.raises(StoreError, match="no such database"):
        Library(driver, database="elsewhere").run("runs")
    assert Library(driver, database=None).cypher("RETURN 1 AS x").rows == [{"x": 1}]


def test_wrong_password(neo4j_server: ServerInfo) -> None:
    with GraphDatabase.driver(neo4j_server.uri, auth=("neo4j", "not-it-at-all")) as driver:
        with pytest.raises(StoreAuthError, match="refuses these credentials") as caught:
            Library(driver).run("runs")
        assert "not-it-at-all" not in str(caught.value)


def test_writing_is_possible_only_when_asked_for(library: Library, driver: Driver) -> None:
    with pytest.raises(QueryRefusedError, match=r"it writes \(Create\)"):
        library.cypher("CREATE (n:X) RETURN n")
    assert library.cypher("CREATE (n:X) RETURN n", write=True).notes[0] == "labels added: 1"
    assert library.cypher("UNWIND [1] AS x CALL (x) { MATCH (n:X) DELETE n } IN TRANSACTIONS", write=True).notes
    assert library.cypher("MATCH (n:X) RETURN n").rows == []


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration", QueryTimeoutError),
        ("Neo.ClientError.Transaction.TransactionTimedOut", QueryTimeoutError),
        ("Neo.ClientError.Security.Unauthorized", StoreAuthError),
        ("Neo.ClientError.Security.CredentialsExpired", StoreAuthError),
        ("Neo.ClientError.Statement.AccessMode", QueryRefusedError),
        ("Neo.ClientError.Database.DatabaseNotFound", StoreError),
        ("Neo.TransientError.General.MemoryPoolOutOfMemoryError", QueryError),
        ("Neo.TransientError.General.OutOfMemoryError", QueryError),
        ("Neo.TransientError.Transaction.DeadlockDetected", StoreError),
        ("Neo.ClientError.Statement.ArithmeticError", QueryError),
        ("", QueryError),
    ],
)
def test_every_code_has_its_type(code: str, error: type[Exception]) -> None:
    made = translated(code, "said so", 3.0)
    assert type(made) is error and str(made).endswith((".", ")"))


def test_the_reference_is_current(pytestconfig: pytest.Config) -> None:
    page: Path = pytestconfig.rootpath / "docs" / "questions.md"
    assert page.read_text(encoding="utf-8") == document(), "run: python -m gradtrace.queries.docs docs/questions.md"
    for name in registry():
        assert f"### {name}\n" in document()
