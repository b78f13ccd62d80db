"""The forms in which answers come: DataFrames, Arrow tables, and from coroutines."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pandas
import pyarrow
import pytest

from gradtrace.queries import AsyncLibrary, Library, registry
from gradtrace.queries.answer import Answer
from gradtrace.queries.model import COLUMN_TYPES
from gradtrace.tracer.errors import QueryError, QueryRefusedError, StoreUnreachableError, UnknownQueryError

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

ARROW = {
    "text": "string",
    "int": "int64",
    "float": "double",
    "bool": "bool",
    "datetime": "timestamp[us, tz=UTC]",
    "texts": "list<item: string>",
    "ints": "list<item: int64>",
}
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("graph-at-step", {"run": "plain"}),
    ("parameter-path", {"run": "probe-only", "parameter": "embed.p0"}),
    ("runs", {}),
    ("run-steps", {"run": "mixed"}),
    ("graph-at-step", {"run": "no-steps"}),
]


@pytest.mark.parametrize(("name", "given"), ASKED)
def test_tables_have_the_declared_types_and_the_same_values(library: Library, name: str, given: dict[str, Any]) -> None:
    answer = library.run(name, **given)
    columns = registry()[name].columns
    table = answer.to_arrow()
    assert table.column_names == list(columns)
    assert [str(field.type) for field in table.schema] == [ARROW[c.type] for c in columns.values()]
    assert table.num_rows == len(answer)
    frame = answer.to_pandas()
    assert list(frame.columns) == list(columns) and len(frame) == len(answer)
    for column in columns.values():
        if column.type != "float":  # NaN is unequal to itself
            assert table.column(column.name).to_pylist() == answer.column(column.name)
        if column.type in ("text", "int", "bool"):
            values = [None if pandas.isna(value) else value for value in frame[column.name].tolist()]
            assert values == answer.column(column.name)


def test_every_column_type_has_an_arrow_type() -> None:
    assert set(ARROW) == set(COLUMN_TYPES)


def test_ad_hoc_answers_take_the_types_of_their_values(library: Library) -> None:
    answer = library.cypher("UNWIND [1, null, 3] AS n RETURN n, toString(n) AS text")
    table = answer.to_arrow()
    assert [str(f.type) for f in table.schema] == ["int64", "string"]
    assert table.to_pylist() == answer.rows
    assert answer.to_pandas()["text"].tolist()[0] == "1"
    with pytest.raises(QueryError, match=r"column x does not fit an Arrow type.*Return one plain type"):
        library.cypher("UNWIND [1, 'a'] AS x RETURN x").to_arrow()
    assert isinstance(Answer("", ("x",), []).to_arrow(), pyarrow.Table)


@pytest.mark.parametrize(("method", "package"), [("to_pandas", "pandas"), ("to_arrow", "pyarrow")])
def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, method: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{method}\(\) needs {package}: pip install 'gradtrace\["):
        getattr(Answer("", ("x",), []), method)()


def test_the_same_answers_from_coroutines(library: Library) -> None:
    lib = AsyncLibrary(library)

    async def ask() -> list[Any]:
        return await asyncio.gather(
            lib.run("graph-at-step", run="plain", step=3),
            lib.cypher("RETURN $x AS x", {"x": 1}, limit=1),
            lib.subgraph("dominant-tree", run="plain"),
            lib.complete("runs", "status", "F"),
            *(lib.run("components-by-epoch", run=run) for run in ("plain", "mixed", "graphs")),
        )

    edges, one, drawn, words, *shares = asyncio.run(ask())
    assert edges.rows == library.run("graph-at-step", run="plain", step=3).rows
    assert one.rows == [{"x": 1}] and drawn == library.subgraph("dominant-tree", run="plain")
    assert words == ["FINISHED", "FAILED"]
    for run, answer in zip(("plain", "mixed", "graphs"), shares, strict=True):
        assert answer.rows == library.run("components-by-epoch", run=run).rows
    assert lib.questions() == library.questions()


def test_coroutines_do_not_hold_the_loop_and_pass_errors_on(library: Library) -> None:
    lib = AsyncLibrary(library)

    async def ask() -> list[int]:
        slow = asyncio.create_task(lib.cypher("UNWIND range(1, 1000000000000) AS x RETURN count(x) AS n", timeout=1.0))
        ticks = 0
        while not slow.done():
            await asyncio.sleep(0.05)
            ticks += 1
        with pytest.raises(QueryError, match="longer than its limit"):
            await slow
        with pytest.raises(UnknownQueryError):
            await lib.run("nope")
        with pytest.raises(QueryRefusedError):
            await lib.cypher("CREATE (n)")
        return [ticks]

    assert asyncio.run(ask())[0] > 2


def test_a_stream_in_a_coroutine(library: Library) -> None:
    lib = AsyncLibrary(library)

    async def ask() -> tuple[list[dict[str, Any]], int]:
        rows = [row async for row in lib.stream("graph-at-step", run="plain", step=3)]
        first = 0
        async for _ in lib.stream("graph-at-step", run="plain", step=3):
            first += 1
            break
        return rows, first

    rows, first = asyncio.run(ask())
    assert rows == library.run("graph-at-step", run="plain", step=3).rows and first == 1


def test_a_library_over_an_address(neo4j_server: ServerInfo, library: Library) -> None:
    with Library.connect(neo4j_server.uri, neo4j_server.user, neo4j_server.password, limit=5) as lib:
        assert lib.run("runs").rows == library.run("runs").rows[:5]
    with (
        pytest.raises(StoreUnreachableError, match="GRADTRACE_NEO4J_URI"),
        Library.connect("nonsense://x", "neo4j", "secret-x") as lib,
    ):
        lib.run("runs")
