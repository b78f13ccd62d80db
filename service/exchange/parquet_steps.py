"""Steps made of the rows of Parquet tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from gradtrace.service.exchange.tables import Row, fields
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.scalargraph import ScalarGraph, ScalarTrace
from gradtrace.tracer.spreadtrace import ComponentSpread, ParameterSpread, SpreadTrace
from gradtrace.tracer.steptrace import BatchTrace, ComponentShare, DominantPath, ParameterTrace, RouteShare, StepTrace

_FLOATS = ("flow", "peak", "mass")
_T = TypeVar("_T")


def step_of(row: Row, parts: Mapping[str, list[Row]], graphs: Mapping[str, Graph]) -> StepTrace:
    """The step whose row of `steps` and whose rows of the other tables these are.

    Raises:
        KeyError, TypeError, ValueError: the rows do not fit together.
    """
    pieces = _Pieces(parts)
    step = StepTrace(
        run=row["run"],
        step=row["step"],
        epoch=row["epoch"],
        loss=row["loss"],
        traces=tuple(_trace(r, pieces, graphs) for r in parts["traces"]),
        watched=tuple(row["watched"]),
        notes=tuple(row["notes"]),
        spreads=tuple(_spread(r, pieces, graphs) for r in parts["spreads"]),
        scalars=tuple(_scalars(r, parts["pointers"], graphs[r["graph"]]) for r in parts["scalars"]),
    )
    pieces.check_used_up()
    return step


class _Pieces:
    """Rows by table, mode and batch, each given out once."""

    def __init__(self, parts: Mapping[str, list[Row]]) -> None:
        self._held: dict[tuple[str, str, str], list[Row]] = {}
        for table in ("parameters", "dominant", "shares", "routes", "parameter_spreads", "component_spreads"):
            for row in parts[table]:
                self._held.setdefault((table, row["mode"], row["batch"]), []).append(row)

    def take(self, table: str, of: Row) -> list[Row]:
        return self._held.pop((table, of["mode"], of["batch"]), [])

    def check_used_up(self) -> None:
        for table, mode, batch in self._held:
            raise ValueError(f"{table} has rows of mode {mode} on the {batch} batch, of which there is no trace")


def _trace(row: Row, pieces: _Pieces, graphs: Mapping[str, Graph]) -> BatchTrace:
    paths = {r["parameter"]: _path(r) for r in pieces.take("dominant", row)}
    parameters = tuple(
        ParameterTrace(**_values(r, "parameters"), strongest=paths.pop(r["parameter"], None))
        for r in pieces.take("parameters", row)
    )
    if paths:
        raise ValueError(f"dominant has paths of {sorted(paths)}, which parameters has not")
    return BatchTrace(
        mode=row["mode"],
        batch=row["batch"],
        graph=graphs[row["graph"]],
        loss=row["loss"],
        non_finite=row["non_finite"],
        consistent=row["consistent"],
        **{name: np.array(row[name], np.float64) for name in _FLOATS},
        traffic=np.array(row["traffic"], np.int64),
        dominant=np.array(row["dominant"], bool),
        parameters=parameters,
        components=_made(ComponentShare, "shares", pieces, row),
        routes=_made(RouteShare, "routes", pieces, row),
    )


def _path(row: Row) -> DominantPath:
    held = {name: row[name] for name in fields("dominant", 5)}
    return DominantPath(
        **held | {name: tuple(held[name] or ()) for name in ("vertices", "index", "weight", "gradient")}
    )


def _spread(row: Row, pieces: _Pieces, graphs: Mapping[str, Graph]) -> SpreadTrace:
    return SpreadTrace(
        mode=row["mode"],
        batch=row["batch"],
        graph=graphs[row["graph"]],
        loss=row["loss"],
        non_finite=row["non_finite"],
        parameters=_made(ParameterSpread, "parameter_spreads", pieces, row),
        components=_made(ComponentSpread, "component_spreads", pieces, row),
    )


def _scalars(row: Row, pointers: list[Row], graph: Graph) -> ScalarTrace:
    floats = {name: np.array(row[name], np.float64) for name in ("gradient", "weight")}
    names = ("vertex", "output", "index", "source", "target", "slot", "edge")
    held = ScalarGraph(
        **{name: np.array(row[name], np.int64) for name in names},
        **floats,
        component=tuple(row["component"]),
        next={r["mode"]: np.array(r["next"], np.int64) for r in pointers if r["batch"] == row["batch"]},
        loss=row["loss"],
    )
    return ScalarTrace(row["batch"], graph, held)


def _made(kind: Callable[..., _T], table: str, pieces: _Pieces, of: Row) -> tuple[_T, ...]:
    """What the rows of a table say that belong to a trace or its sums."""
    return tuple(kind(**_values(row, table)) for row in pieces.take(table, of))


def _values(row: Row, table: str) -> dict[str, Any]:
    """The columns behind run, step, mode and batch; lists as tuples."""
    return {name: tuple(v) if isinstance(v := row[name], list) else v for name in fields(table, 4)}
