"""Runs into a folder of Parquet files, one a table."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradtrace.service.exchange.tables import FORMAT, TABLES, WIDE, graph_rows, step_rows
from gradtrace.service.store.read import StoredRun
from gradtrace.tracer.steptrace import StepTrace

_ROWS, _WIDE_ROWS = 20_000, 64


class ParquetFiles:
    """Takes runs and writes them into a new folder; what it holds at once is bounded. Whole when it is closed.

    Args:
        folder: is made; must not be there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._files = ExitStack()
        about = {"gradtrace.format": str(FORMAT), "gradtrace.version": version("gradtrace")}
        about["gradtrace.export"] = secrets.token_hex(8)
        self._writers = {
            name: self._files.enter_context(
                pq.ParquetWriter(
                    folder / f"{name}.parquet",
                    schema.with_metadata({**about, "gradtrace.table": name}),
                    compression="zstd",
                    write_page_checksum=True,
                )
            )
            for name, schema in TABLES.items()
        }
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._graphs: set[str] = set()

    def __enter__(self) -> ParquetFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._files:
            if kind is None:
                for name in TABLES:
                    self._flush(name)

    def open_run(self, run: StoredRun) -> None:
        """Take a run, before its steps."""
        record = run.record
        row: dict[str, Any] = {"run": record.id, "workload": record.workload, "experiment": record.experiment}
        row |= {"modes": list(record.modes), "parameters": json.dumps(record.parameters, ensure_ascii=False)}
        row |= {"status": run.status, "reason": run.reason, "held_out": list(run.held_out.items()), "steps": run.steps}
        self._add("runs", {**row, "started": run.started, "ended": run.ended})

    def write(self, step: StepTrace) -> None:
        """Take a step."""
        for graph in step.graphs:
            if graph.fingerprint not in self._graphs:
                self._graphs.add(graph.fingerprint)
                for table, row in graph_rows(graph):
                    self._add(table, row)
        for table, row in step_rows(step):
            self._add(table, row)

    def _add(self, table: str, row: dict[str, Any]) -> None:
        rows = self._rows[table]
        rows.append(row)
        if len(rows) >= (_WIDE_ROWS if table in WIDE else _ROWS):
            self._flush(table)

    def _flush(self, table: str) -> None:
        if self._rows[table]:
            self._writers[table].write_table(pa.Table.from_pylist(self._rows[table], self._writers[table].schema))
            self._rows[table] = []
