"""Runs out of a folder of Parquet files that `ParquetFiles` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradtrace.service.exchange.parquet_steps import step_of
from gradtrace.service.exchange.tables import FORMAT, OF_STEPS, TABLES, WIDE, Row
from gradtrace.service.store.read import StoredRun
from gradtrace.tracer.errors import ExchangeError
from gradtrace.tracer.fold import When
from gradtrace.tracer.graph import Component, Edge, Graph, Vertex
from gradtrace.tracer.steptrace import RunRecord, StepTrace

_ROWS, _WIDE_ROWS = 2_000, 16


class ParquetSource:
    """A folder of Parquet files as runs and their steps, read in pages.

    Raises:
        ExchangeError: it is no such folder, a file of it is missing, cut or changed, or it was written by a newer gradtrace.
    """

    fold: When = "never"
    """Its graphs stand as a store had them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        exports = set()
        for name, schema in TABLES.items():
            with self._file(name) as file:
                exports.add(self._check(name, file.schema_arrow, schema))
        if len(exports) > 1:
            raise ExchangeError(
                f"The files in {folder} are of {len(exports)} exports. Keep those of one export together."
            )

    def runs(self) -> list[StoredRun]:
        """The runs, without their steps."""
        return [_run(row) for row in self._rows("runs")]

    def steps(self) -> Iterator[StepTrace]:
        """The steps of all runs, by run and step."""
        graphs = self._graphs()
        with ExitStack() as files:
            cursors = {name: _Cursor(files.enter_context(self._open(name))) for name in OF_STEPS}
            for row in self._rows("steps"):
                key = (row["run"], row["step"])
                parts = {name: cursor.take(key) for name, cursor in cursors.items()}
                with self._understood(f"step {key[1]} of run {key[0]!r}"):
                    step = step_of(row, parts, graphs)
                yield step
            for name, cursor in cursors.items():
                if (left := cursor.head) is not None:
                    raise ExchangeError(
                        f"{name}.parquet in {self.path} has rows of step {left['step']} of run {left['run']!r} where the other "
                        "tables have none: rows were taken away, added or put in another order. Export again."
                    )

    def _graphs(self) -> dict[str, Graph]:
        parts: dict[str, dict[str, list[Row]]] = {}
        for table in ("vertices", "edges", "components"):
            for row in self._rows(table):
                parts.setdefault(row["graph"], {}).setdefault(table, []).append(row)
        made = {}
        for row in self._rows("graphs"):
            key = row["graph"]
            with self._understood(f"graph {key}"):
                graph = _graph(row, parts.get(key, {}))
            if graph.fingerprint != key:
                raise ExchangeError(
                    f"The graph {key} in {self.path} has the fingerprint {graph.fingerprint}: it was changed, or another "
                    "version of gradtrace wrote it. Export again."
                )
            made[key] = graph
        return made

    @contextmanager
    def _file(self, name: str) -> Iterator[pq.ParquetFile]:
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            raise ExchangeError(
                f"{self.path} is no folder of exported runs: it has no file {path.name}. `gradtrace db export RUN... -o FOLDER` "
                "makes one."
            )
        with self._readable(name):
            file = pq.ParquetFile(path, page_checksum_verification=True)
        with file:
            yield file

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise ExchangeError(
                f"{self.path / name}.parquet cannot be read: {str(error).splitlines()[0]} It was cut or changed. Copy it once "
                "more, or export again."
            ) from error

    def _check(self, name: str, found: pa.Schema, expected: pa.Schema) -> bytes:
        about = found.metadata or {}
        told = about.get(b"gradtrace.format", b"").decode(errors="replace")
        if not told.isdigit() or about.get(b"gradtrace.table") != name.encode():
            raise ExchangeError(
                f"{self.path / name}.parquet was not written by gradtrace: its metadata do not name the table {name}. Import "
                "what `gradtrace db export` wrote."
            )
        if int(told) > FORMAT:
            by = about.get(b"gradtrace.version", b"?").decode(errors="replace")
            raise ExchangeError(
                f"{self.path} has format {told}, written by gradtrace {by}; this gradtrace reads formats up to {FORMAT}. "
                "Bring it up to date: pip install --upgrade gradtrace."
            )
        if not found.equals(expected):
            raise ExchangeError(
                f"{self.path / name}.parquet has the columns {', '.join(found.names)}, and should have "
                f"{', '.join(f'{f.name} ({f.type})' for f in expected)}. It was changed; export again."
            )
        return bytes(about.get(b"gradtrace.export", b""))

    @contextmanager
    def _open(self, name: str) -> Iterator[Iterator[Row]]:
        """The rows of a table; held are those of one page."""
        with self._file(name) as file:
            yield self._pages(name, file, _WIDE_ROWS if name in WIDE else _ROWS)

    def _pages(self, name: str, file: pq.ParquetFile, size: int) -> Iterator[Row]:
        pages = file.iter_batches(batch_size=size, use_threads=False)
        while True:
            with self._readable(name):
                page = next(pages, None)
                rows = page.to_pylist() if page is not None else None
            if rows is None:
                return
            yield from rows

    def _rows(self, name: str) -> Iterator[Row]:
        with self._open(name) as rows:
            yield from rows

    @contextmanager
    def _understood(self, what: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ExchangeError(
                f"{what[0].upper()}{what[1:]} in {self.path} is malformed ({error!r}). Export again."
            ) from error


class _Cursor:
    """The rows of a table, taken step by step."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.head = next(rows, None)

    def take(self, key: tuple[str, int]) -> list[Row]:
        """The next rows, as long as they are of this step."""
        taken = []
        while self.head is not None and (self.head["run"], self.head["step"]) == key:
            taken.append(self.head)
            self.head = next(self._rows, None)
        return taken


def _run(row: dict[str, Any]) -> StoredRun:
    record = RunRecord(
        row["run"], row["workload"], row["experiment"], json.loads(row["parameters"]), tuple(row["modes"])
    )
    measured = dict(row["held_out"])
    return StoredRun(record, row["status"], row["reason"], measured, row["steps"], row["started"], row["ended"])


def _graph(row: Row, parts: dict[str, list[Row]]) -> Graph:
    vertices = sorted(parts.get("vertices", []), key=lambda r: r["vertex"])
    edges = sorted(parts.get("edges", []), key=lambda r: r["edge"])
    return Graph(
        name=row["name"],
        folded=row["folded"],
        vertices=tuple(
            Vertex(r["vertex"], r["kind"], r["op"], r["name"], r["component"], tuple(r["shape"]), r["time"])
            for r in vertices
        ),
        edges=tuple(Edge(r["edge"], r["source"], r["target"], r["slot"]) for r in edges),
        components=tuple(
            Component(r["component"], r["name"], r["role"], r["depth"], r["parent"])
            for r in parts.get("components", [])
        ),
    )
