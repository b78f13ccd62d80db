"""Files that are no whole export of ours are refused, with what to do, before anything is written."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gradtrace.service.exchange.coming import import_runs, open_source
from gradtrace.service.exchange.formats import format_of, whole
from gradtrace.service.exchange.jsonl import JsonlFile
from gradtrace.service.exchange.leaving import export_runs
from gradtrace.service.exchange.parquet_read import ParquetSource
from gradtrace.service.exchange.parquet_write import ParquetFiles
from gradtrace.service.store.read import StoredRun
from gradtrace.tracer.errors import ExchangeError, SpecError
from gradtrace.tracer.graph import Edge
from gradtrace.tracer.steptrace import StepTrace
from tests.same import same
from tests.service.store.exchanging import PLAIN, rich_record, rich_steps
from tests.synthetic import run_record, step_trace


class NoStore:
    """In place of a store that nothing may ask: a refusal comes before."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the store was asked for its {name}")


NOWHERE: Any = NoStore()


def steps(count: int = 4) -> list[StepTrace]:
    return [step_trace(PLAIN, n, spreads=("entropy",)) for n in range(count)]


def written(
    kind: type[ParquetFiles] | type[JsonlFile], path: Path, sent: list[StepTrace], said: int | None = None
) -> Path:
    """A file of one run; it says that it has `said` steps."""
    with kind(path) as files:
        files.open_run(StoredRun(run_record(PLAIN), "FINISHED", None, {}, len(sent) if said is None else said))
        for step in sent:
            files.write(step)
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(ParquetFiles, tmp_path_factory.mktemp("good") / "run", steps())


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a table again, changed; its metadata stay unless they are what is changed."""
    pq.write_table(change(pq.read_table(path)), path)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(path: Path) -> None:
    """Turn a bit over in the middle of the first column's data."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(8)
    text = bytearray(path.read_bytes())
    text[column.data_page_offset + column.total_compressed_size // 2] ^= 16
    path.write_bytes(bytes(text))


def metadata(path: Path, **more: str) -> None:
    def change(table: pa.Table) -> pa.Table:
        return table.replace_schema_metadata(
            {**table.schema.metadata, **{f"gradtrace.{k}".encode(): v for k, v in more.items()}}
        )

    rewritten(path, change)


def first_replaced(table: pa.Table, name: str, value: Any) -> pa.Table:
    values = table[name].to_pylist()
    values[0] = value
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: cut(f / "shares.parquet", 0.6), r"shares\.parquet cannot be read: .* It was cut or changed"),
    "empty": (lambda f: (f / "steps.parquet").write_bytes(b""), r"steps\.parquet cannot be read"),
    "a bit turned over": (lambda f: flip(f / "traces.parquet"), r"traces\.parquet cannot be read: .*CRC"),
    "a file gone": (lambda f: (f / "routes.parquet").unlink(), r"it has no file routes\.parquet"),
    "another's": (
        lambda f: pq.write_table(pa.table({"run": ["r"]}), f / "runs.parquet"),
        r"runs\.parquet was not written by gradtrace",
    ),
    "newer": (
        lambda f: metadata(f / "runs.parquet", format="2", version="7.1"),
        r"has format 2, written by gradtrace 7\.1; this gradtrace reads formats up to 1\. Bring it up to date",
    ),
    "of two exports": (lambda f: metadata(f / "edges.parquet", export="x"), "are of 2 exports"),
    "swapped": (lambda f: shutil.copy(f / "edges.parquet", f / "steps.parquet"), r"do not name the table steps"),
    "a column gone": (
        lambda f: rewritten(f / "steps.parquet", lambda t: t.drop_columns(["notes"])),
        r"steps\.parquet has the columns .* and should have run \(string\), ",
    ),
    "steps gone": (
        lambda f: rewritten(f / "steps.parquet", lambda t: t.slice(0, 3)),
        r"traces\.parquet in .* has rows of step 3 of run 'plain-1' where the other tables have none",
    ),
    "rows in disorder": (
        lambda f: rewritten(f / "traces.parquet", lambda t: t.take(pc.sort_indices(t, [("step", "descending")]))),
        r"(Step 0 .*cannot be stored: it holds no trace|has no rows|Step 0 of run 'plain-1' in .* is malformed)",
    ),
    "no run": (
        lambda f: rewritten(f / "runs.parquet", lambda t: t.slice(0, 0)),
        r"Step 0 of run 'plain-1' in .* is of a run that is not announced there",
    ),
    "a graph changed": (
        lambda f: rewritten(f / "vertices.parquet", lambda t: first_replaced(t, "op", "Changed")),
        r"The graph \w+ in .* has the fingerprint \w+: it was changed",
    ),
    "a component that is none": (
        lambda f: rewritten(f / "shares.parquet", lambda t: first_replaced(t, "component", "made.up")),
        r"its greedy trace has a share of 'made\.up', which the graph has no component of",
    ),
    "a parameter that is none": (
        lambda f: rewritten(f / "parameters.parquet", lambda t: first_replaced(t, "vertex", 10**6)),
        r"says that vertex 1000000 is the parameter",
    ),
    "a run that goes on": (
        lambda f: rewritten(f / "runs.parquet", lambda t: first_replaced(t, "status", "RUNNING")),
        r"has the status 'RUNNING', so it has not ended",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_folder_that_is_not_whole_is_refused(what: str, good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "run"))
    change, said = BROKEN[what]
    change(folder)
    with pytest.raises(ExchangeError, match=said):
        import_runs(NOWHERE, open_source(folder))


def test_steps_that_are_missing_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match=r"has 9 traced steps, and .* holds 4 of them"):
        import_runs(NOWHERE, open_source(written(ParquetFiles, tmp_path / "run", steps(), said=9)))


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (step,) = steps(1)
    wrong = replace(step, traces=(replace(step.traces[0], flow=np.zeros(3)),))
    with pytest.raises(ExchangeError, match=r"Step 0 .* cannot be stored: flow has shape \(3,\) where the graph has"):
        import_runs(NOWHERE, open_source(written(JsonlFile, tmp_path / "run.jsonl", [wrong])))


def test_graphs_that_do_not_hold_together_are_refused(tmp_path: Path) -> None:
    (step,) = steps(1)
    graph = step.traces[0].graph
    for change, said in (
        ({"components": graph.components[:-1]}, r"its graph \w+ names the component '.+', which it does not list"),
        ({"edges": (*graph.edges, Edge(len(graph.edges), 0, 99, 0))}, r"has an edge from 0 to 99, and 40 vertices"),
    ):
        other = replace(graph, **change)
        count = len(other.edges)
        arrays = {name: np.zeros(count) for name in ("flow", "peak", "mass")}
        arrays |= {"traffic": np.zeros(count, np.int64), "dominant": np.zeros(count, bool)}
        wrong = replace(step, traces=(replace(step.traces[0], graph=other, **arrays),), spreads=())
        path = written(JsonlFile, tmp_path / f"{count}.jsonl", [wrong])
        with pytest.raises(ExchangeError, match=said):
            import_runs(NOWHERE, open_source(path))


def test_lines_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    path = written(JsonlFile, tmp_path / "run.jsonl", steps())
    lines = path.read_bytes().splitlines(keepends=True)
    for text, said in (
        (b"".join(lines)[:-9], "ends in the middle of a line .* it was cut"),
        (b"".join(lines[:-1]), "does not say how run 'plain-1' ended"),
        (b"".join(lines[1:]), "has steps of run 'plain-1', which it does not announce"),
        (b"".join([lines[0], *lines[2:]]), "refers to the graph"),
        (b'{"a": 1}\n', "Line 1 of run.jsonl is no record of a JsonlSink"),
        (b"step,loss\n1,2\n", "Line 1 of run.jsonl is no JSON"),
        (lines[0] + json.dumps({"type": "later"}).encode() + b"\n", "unknown record type 'later'"),
    ):
        path.write_bytes(text)
        with pytest.raises(ExchangeError, match=said):
            import_runs(NOWHERE, open_source(path))


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="There is no "):
        open_source(tmp_path / "nothing")
    with pytest.raises(ExchangeError, match=r"has no file runs\.parquet"):
        open_source(tmp_path)
    (tmp_path / "graph.graphml").write_text("<graphml/>")
    with pytest.raises(ExchangeError, match="GraphML cannot be imported"):
        open_source(tmp_path / "graph.graphml")
    (tmp_path / "table.csv").write_text("")
    with pytest.raises(SpecError, match=r"ends in \.csv, which tells no format"):
        open_source(tmp_path / "table.csv")
    assert format_of(tmp_path / "RUN.JSONL") == "jsonl" and format_of(tmp_path / "run.parquet") == "parquet"


def test_without_pyarrow_it_says_what_to_install(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    for attempt in (lambda: open_source(good), lambda: export_runs(NOWHERE, ["r"], tmp_path / "out")):
        with pytest.raises(ExchangeError, match=r"pip install 'gradtrace\[arrow\]'"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_all_that_a_step_holds_goes_through_the_tables(tmp_path: Path) -> None:
    sent = list(rich_steps())
    with ParquetFiles(tmp_path / "run") as files:
        files.open_run(StoredRun(rich_record(), "FAILED", "why", {"loss": 1.5}, len(sent), "2026-01-01T00:00:00Z"))
        for step in sent:
            files.write(step)
    source = ParquetSource(tmp_path / "run")
    assert same(tuple(source.steps()), tuple(sent))
    (run,) = source.runs()
    assert same(run.record, rich_record())
    assert (run.status, run.reason, run.held_out, run.steps) == ("FAILED", "why", {"loss": 1.5}, len(sent))


def test_a_target_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "run") as part:
        written(ParquetFiles, part, steps(1))
        raise ZeroDivisionError
    with pytest.raises(ExchangeError, match="is there already"), whole(tmp_path / "late") as part:
        part.write_text("ours")
        (tmp_path / "late").write_text("theirs")  # while we wrote
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("late", "theirs")]
