"""Steps as rows for the store: plain lists and numbers, no driver.

Rows refer to shared nodes by position in a list of keys of the same batch, so that each key is sent and looked up once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradtrace.service.store.keys import (
    component_key,
    path_hash,
    route_hash,
    step_key,
    trace_key,
    vertex_key,
)
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.spreadtrace import SpreadTrace
from gradtrace.tracer.steptrace import BatchTrace, DominantPath, ParameterTrace, StepTrace

Row = list[Any]
STRONGEST = 8
"""Parameters of a trace (by mass) whose path is stored with indices, weights and gradients."""


class Keys:
    """A list of distinct keys, and the position of each."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}

    def __call__(self, key: str) -> int:
        """Position of `key`, which is added if it is new."""
        return self._place.setdefault(key, len(self._place))

    def __len__(self) -> int:
        return len(self._place)

    @property
    def all(self) -> list[str]:
        """The keys by position."""
        return list(self._place)


@dataclass
class StepRows:
    """The rows of a batch of steps.

    Attributes:
        runs, graphs, traces, components, parameters, paths, routes: keys of the nodes that rows refer to by position.
        steps: one map a step, with its traces.
        carries, left, dominant, top: one list a relationship: position of the target, of the trace, then the columns.
        spread, spread_in: likewise, with the position of the step: sums over all paths, of parameters and of components.
    """

    runs: Keys = field(default_factory=Keys)
    graphs: Keys = field(default_factory=Keys)
    traces: Keys = field(default_factory=Keys)
    components: Keys = field(default_factory=Keys)
    parameters: Keys = field(default_factory=Keys)
    paths: Keys = field(default_factory=Keys)
    routes: Keys = field(default_factory=Keys)
    steps: list[dict[str, Any]] = field(default_factory=list)
    carries: list[Row] = field(default_factory=list)
    left: list[Row] = field(default_factory=list)
    dominant: list[Row] = field(default_factory=list)
    top: list[Row] = field(default_factory=list)
    spread: list[Row] = field(default_factory=list)
    spread_in: list[Row] = field(default_factory=list)


def step_rows(steps: Iterable[StepTrace]) -> StepRows:
    """The rows of some steps, which should come sorted by run and step.

    The rows of a relationship are sorted by their targets' keys, so that all writers come by shared nodes in one order.
    """
    rows = StepRows()
    for step in steps:
        first = primary(step)
        rows.steps.append(
            {
                "run": rows.runs(step.run),
                "graph": rows.graphs(first.graph.fingerprint),
                "properties": {
                    "key": step_key(step.run, step.step),
                    "run": step.run,
                    "step": step.step,
                    "epoch": step.epoch,
                    "loss": step.loss,
                    "batch": first.batch,
                    "flow": first.flow.tolist(),
                    "peak": first.peak.tolist(),
                    "non_finite": step.non_finite,
                    "watched": list(step.watched),
                    "notes": list(step.notes),
                },
                "traces": [_trace(rows, step, trace, first) for trace in step.traces],
            }
        )
        for spread in step.spreads:
            _spread(rows, len(rows.steps) - 1, spread)
    for part, targets in (
        (rows.carries, rows.components),
        (rows.left, rows.parameters),
        (rows.dominant, rows.paths),
        (rows.top, rows.routes),
        (rows.spread, rows.parameters),
        (rows.spread_in, rows.components),
    ):
        _sort_by_target(part, targets.all)
    return rows


def _sort_by_target(part: list[Row], keys: list[str]) -> None:
    part.sort(key=lambda row: keys[row[0]])


def primary(step: StepTrace) -> BatchTrace:
    """The trace whose batch and graph stand for the step: of the training batch if it was traced, else of the probe."""
    return next((t for t in step.traces if t.batch == "training"), step.traces[0])


def detailed(trace: BatchTrace, watched: Sequence[str]) -> set[str]:
    """Names of the parameters whose path arrays are stored: the strongest by mass, and those watched by name."""
    live = [p for p in trace.parameters if p.strongest is not None]
    strongest = sorted(live, key=lambda p: -p.mass)[:STRONGEST]
    return {p.parameter for p in strongest} | set(watched)


def weight_of(step: StepTrace) -> int:
    """About how many bytes a step takes on the wire."""
    total = 400
    for trace in step.traces:
        names = detailed(trace, step.watched)
        hops = sum(len(p.strongest.vertices) for p in trace.parameters if p.strongest and p.parameter in names)
        rows = len(trace.routes) + 2 * len(trace.parameters) + len(trace.components)
        total += 36 * len(trace.graph.edges) + 24 * hops + 90 * rows
    total += sum(90 * (len(s.parameters) + len(s.components)) for s in step.spreads)
    for held in (t.scalars for t in step.scalars):
        total += 90 * len(held.vertex) * (1 + len(held.next)) + 80 * len(held.weight)
    return total


def _spread(rows: StepRows, at: int, spread: SpreadTrace) -> None:
    which = [spread.mode, spread.batch]
    for p in spread.parameters:
        target = rows.parameters(vertex_key(spread.graph.fingerprint, p.vertex))
        rows.spread.append([target, at, *which, p.live, p.mass, p.abs_sum, p.coherence, p.entropy])
    for c in spread.components:
        target = rows.components(component_key(spread.graph.architecture_hash, c.component))
        rows.spread_in.append([target, at, *which, c.share, c.abs_sum, c.own, c.foreign, c.coherence, c.entropy])


def _trace(rows: StepRows, step: StepTrace, trace: BatchTrace, first: BatchTrace) -> dict[str, Any]:
    graph = trace.graph
    key = trace_key(step.run, step.step, trace.mode, trace.batch)
    at = rows.traces(key)
    other = trace.batch != first.batch
    for c in trace.components:
        target = rows.components(component_key(graph.architecture_hash, c.component))
        numbers = (c.share, c.mass, c.traffic, c.visits, c.own, c.foreign, c.contested, c.won, c.flow)
        begun = (c.times, c.time_mass, c.examples, c.example_mass)
        rows.carries.append([target, at, *numbers, *(list(b) or None for b in begun)])
    names = detailed(trace, step.watched)
    for p in trace.parameters:
        target = rows.parameters(vertex_key(graph.fingerprint, p.vertex))
        rows.left.append([target, at, p.traffic, p.mass, p.dead, p.unread, p.non_finite])
        if p.strongest is not None:
            rows.dominant.append(_dominant(rows, graph, at, p, p.strongest, p.parameter in names))
    for r in trace.routes:
        rows.top.append([rows.routes(route_hash(r.route)), at, r.parameter, r.traffic, r.mass, r.rank])
    return {
        "graph": rows.graphs(graph.fingerprint),
        "properties": {
            "key": key,
            "mode": trace.mode,
            "batch": trace.batch,
            "loss": trace.loss,
            "traffic": trace.traffic.tolist(),
            "mass": trace.mass.tolist(),
            "dominant": trace.dominant.tolist(),
            "non_finite": trace.non_finite,
            "consistent": trace.consistent,
            "flow": trace.flow.tolist() if other else None,
            "peak": trace.peak.tolist() if other else None,
        },
    }


def _dominant(rows: StepRows, graph: Graph, at: int, p: ParameterTrace, path: DominantPath, arrays: bool) -> Row:
    return [
        rows.paths(path_hash(graph.fingerprint, path.vertices)),
        at,
        p.parameter,
        path.scalar,
        path.mass,
        path.parameter_gradient,
        path.share,
        path.margin,
        path.concentration,
        path.example,
        path.time,
        list(path.index) if arrays else None,
        list(path.weight) if arrays else None,
        list(path.gradient) if arrays else None,
    ]
