"""The tables of runs in Parquet: their columns, and steps as rows of them.

A table is a file of the folder. Rows stand in the order of runs and steps. Lists are list columns; whatever runs by edges runs
by `edges.edge` of the graph, whatever runs by operators by `vertices.vertex`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.spreadtrace import SpreadTrace
from gradtrace.tracer.steptrace import BatchTrace, StepTrace

FORMAT = 1
"""Version of these tables; a reader refuses newer ones."""
Row = dict[str, Any]

_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TEXTS, _INTS, _FLOATS = pa.list_(_TEXT), pa.list_(_INT), pa.list_(_FLOAT)
_STEP = {"run": _TEXT, "step": _INT}
_TRACE = {**_STEP, "mode": _TEXT, "batch": _TEXT}
_SCALARS = {**_STEP, "batch": _TEXT}

_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "runs": {
        "run": _TEXT,
        "workload": _TEXT,
        "experiment": _TEXT,
        "modes": _TEXTS,
        "parameters": _TEXT,
        "status": _TEXT,
        "reason": _TEXT,
        "held_out": pa.map_(_TEXT, _FLOAT),
        "steps": _INT,
        "started": _TEXT,
        "ended": _TEXT,
    },
    "graphs": {"graph": _TEXT, "name": _TEXT, "folded": _BOOL},
    "vertices": {
        "graph": _TEXT,
        "vertex": _INT,
        "kind": _TEXT,
        "op": _TEXT,
        "name": _TEXT,
        "component": _TEXT,
        "shape": _INTS,
        "time": _INT,
    },
    "edges": {"graph": _TEXT, "edge": _INT, "source": _INT, "target": _INT, "slot": _INT},
    "components": {"graph": _TEXT, "component": _TEXT, "name": _TEXT, "role": _TEXT, "depth": _INT, "parent": _TEXT},
    "steps": {**_STEP, "epoch": _INT, "loss": _FLOAT, "non_finite": _BOOL, "watched": _TEXTS, "notes": _TEXTS},
    "traces": {
        **_TRACE,
        "graph": _TEXT,
        "loss": _FLOAT,
        "non_finite": _BOOL,
        "consistent": _BOOL,
        "flow": _FLOATS,
        "peak": _FLOATS,
        "traffic": _INTS,
        "mass": _FLOATS,
        "dominant": pa.list_(_BOOL),
    },
    "parameters": {
        **_TRACE,
        "parameter": _TEXT,
        "vertex": _INT,
        "shape": _INTS,
        "traffic": _INT,
        "mass": _FLOAT,
        "dead": _INT,
        "unread": _INT,
        "non_finite": _INT,
    },
    "dominant": {
        **_TRACE,
        "parameter": _TEXT,
        "scalar": _INT,
        "vertices": _INTS,
        "index": _INTS,
        "weight": _FLOATS,
        "gradient": _FLOATS,
        "parameter_gradient": _FLOAT,
        "mass": _FLOAT,
        "share": _FLOAT,
        "margin": _FLOAT,
        "concentration": _FLOAT,
        "example": _INT,
        "time": _INT,
    },
    "shares": {
        **_TRACE,
        "component": _TEXT,
        "share": _FLOAT,
        "mass": _FLOAT,
        "traffic": _INT,
        "visits": _FLOAT,
        "own": _FLOAT,
        "foreign": _FLOAT,
        "contested": _INT,
        "won": _INT,
        "flow": _FLOAT,
        "times": _INTS,
        "time_mass": _FLOATS,
        "examples": _INTS,
        "example_mass": _FLOATS,
    },
    "routes": {
        **_TRACE,
        "parameter": _TEXT,
        "route": _TEXTS,
        "traffic": _INT,
        "mass": _FLOAT,
        "share": _FLOAT,
        "rank": _INT,
    },
    "spreads": {**_TRACE, "graph": _TEXT, "loss": _FLOAT, "non_finite": _BOOL},
    "parameter_spreads": {
        **_TRACE,
        "parameter": _TEXT,
        "vertex": _INT,
        "shape": _INTS,
        "live": _INT,
        "mass": _FLOAT,
        "abs_sum": _FLOAT,
        "coherence": _FLOAT,
        "entropy": _FLOAT,
    },
    "component_spreads": {
        **_TRACE,
        "component": _TEXT,
        "share": _FLOAT,
        "abs_sum": _FLOAT,
        "own": _FLOAT,
        "foreign": _FLOAT,
        "coherence": _FLOAT,
        "entropy": _FLOAT,
    },
    "scalars": {
        **_SCALARS,
        "graph": _TEXT,
        "loss": _INT,
        "vertex": _INTS,
        "output": _INTS,
        "index": _INTS,
        "component": _TEXTS,
        "gradient": _FLOATS,
        "source": _INTS,
        "target": _INTS,
        "slot": _INTS,
        "edge": _INTS,
        "weight": _FLOATS,
    },
    "pointers": {**_SCALARS, "mode": _TEXT, "next": _INTS},
}
TABLES: dict[str, pa.Schema] = {name: pa.schema(list(columns.items())) for name, columns in _COLUMNS.items()}
"""Columns of each table by its name."""
OF_RUNS, OF_GRAPHS = ("runs",), ("graphs", "vertices", "edges", "components")
OF_STEPS = tuple(name for name in TABLES if name not in (*OF_RUNS, *OF_GRAPHS))
"""Tables whose rows belong to steps."""
WIDE = ("traces", "scalars", "pointers")
"""Tables whose rows are large."""


def fields(table: str, leading: int) -> tuple[str, ...]:
    """Names of the columns of a table behind its first ones."""
    return tuple(_COLUMNS[table])[leading:]


def graph_rows(graph: Graph) -> Iterator[tuple[str, Row]]:
    """A graph as rows: (table, row)."""
    key = graph.fingerprint
    yield "graphs", {"graph": key, "name": graph.name, "folded": graph.folded}
    for v in graph.vertices:
        row = {"graph": key, "vertex": v.idx, "kind": v.kind, "op": v.op, "name": v.name, "component": v.component}
        yield "vertices", {**row, "shape": list(v.shape), "time": v.time}
    for e in graph.edges:
        yield "edges", {"graph": key, "edge": e.idx, "source": e.source, "target": e.target, "slot": e.slot}
    for c in graph.components:
        row = {"graph": key, "component": c.path, "name": c.name, "role": c.role}
        yield "components", {**row, "depth": c.depth, "parent": c.parent}


def step_rows(step: StepTrace) -> Iterator[tuple[str, Row]]:
    """A step as rows: (table, row)."""
    key = {"run": step.run, "step": step.step}
    row = {"epoch": step.epoch, "loss": step.loss, "non_finite": step.non_finite}
    yield "steps", {**key, **row, "watched": list(step.watched), "notes": list(step.notes)}
    for trace in step.traces:
        yield from _trace_rows(key, trace)
    for spread in step.spreads:
        yield from _spread_rows(key, spread)
    for held in step.scalars:
        which = {**key, "batch": held.batch}
        columns = {name: _cell(getattr(held.scalars, name)) for name in fields("scalars", 4)}
        yield "scalars", {**which, "graph": held.graph.fingerprint, **columns}
        for mode, chosen in held.scalars.next.items():
            yield "pointers", {**which, "mode": mode, "next": chosen}


def _trace_rows(key: Row, trace: BatchTrace) -> Iterator[tuple[str, Row]]:
    which = {**key, "mode": trace.mode, "batch": trace.batch}
    columns = {name: _cell(getattr(trace, name)) for name in fields("traces", 5)}
    yield "traces", {**which, "graph": trace.graph.fingerprint, **columns}
    for p in trace.parameters:
        yield "parameters", which | _picked(p, "parameters")
        if p.strongest is not None:
            row = {name: _cell(getattr(p.strongest, name)) for name in fields("dominant", 5)}
            if p.strongest.vertices and not row["index"]:
                row |= dict.fromkeys(("index", "weight", "gradient"))
            yield "dominant", {**which, "parameter": p.parameter, **row}
    for c in trace.components:
        yield "shares", which | _picked(c, "shares")
    for r in trace.routes:
        yield "routes", which | _picked(r, "routes")


def _spread_rows(key: Row, spread: SpreadTrace) -> Iterator[tuple[str, Row]]:
    which = {**key, "mode": spread.mode, "batch": spread.batch}
    row = {"graph": spread.graph.fingerprint, "loss": spread.loss, "non_finite": spread.non_finite}
    yield "spreads", {**which, **row}
    for p in spread.parameters:
        yield "parameter_spreads", which | _picked(p, "parameter_spreads")
    for c in spread.components:
        yield "component_spreads", which | _picked(c, "component_spreads")


def _picked(item: object, table: str) -> Row:
    return {name: _cell(getattr(item, name)) for name in fields(table, len(_TRACE))}


def _cell(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
