"""Steps as rows for the store: plain lists and numbers, no driver.

Rows stand under the key of the shared node that they lead to, and refer to their step or trace by its position in the batch,
so that each key is sent and looked up once.
"""

from __future__ import annotations

from collections import defaultdict
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
from gradtrace.tracer.spreadtrace import SpreadTrace
from gradtrace.tracer.steptrace import BatchTrace, DominantPath, ParameterTrace, StepTrace

Row = list[Any]
ByTarget = defaultdict[str, list[Row]]
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
        runs, graphs, traces: keys of the nodes that rows refer to by position.
        steps: one map a step, with its traces.
        carries, left, dominant, top: one list a relationship, by the key of its target: position of the trace, then the
            columns.
        spread, spread_in: likewise, with the position of the step: sums over all paths, of parameters and of components.
    """

    runs: Keys = field(default_factory=Keys)
    graphs: Keys = field(default_factory=Keys)
    traces: Keys = field(default_factory=Keys)
    steps: list[dict[str, Any]] = field(default_factory=list)
    carries: ByTarget = field(default_factory=lambda: defaultdict(list))
    left: ByTarget = field(default_factory=lambda: defaultdict(list))
    dominant: ByTarget = field(default_factory=lambda: defaultdict(list))
    top: ByTarget = field(default_factory=lambda: defaultdict(list))
    spread: ByTarget = field(default_factory=lambda: defaultdict(list))
    spread_in: ByTarget = field(default_factory=lambda: defaultdict(list))


def step_rows(steps: Iterable[StepTrace]) -> StepRows:
    """The rows of some steps, which should come sorted by run and step."""
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
    return rows


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
        target = vertex_key(spread.graph.fingerprint, p.vertex)
        rows.spread[target].append([at, *which, p.live, p.mass, p.abs_sum, p.coherence, p.entropy])
    for c in spread.components:
        target = component_key(spread.graph.architecture_hash, c.component)
        rows.spread_in[target].append([at, *which, c.share, c.abs_sum, c.own, c.foreign, c.coherence, c.entropy])


def _trace(rows: StepRows, step: StepTrace, trace: BatchTrace, first: BatchTrace) -> dict[str, Any]:
    graph = trace.graph
    key = trace_key(step.run, step.step, trace.mode, trace.batch)
    at = rows.traces(key)
    other = trace.batch != first.batch
    for c in trace.components:
        numbers = (c.share, c.mass, c.traffic, c.visits, c.own, c.foreign, c.contested, c.won, c.flow)
        begun = (c.times, c.time_mass, c.examples, c.example_mass)
        target = component_key(graph.architecture_hash, c.component)
        rows.carries[target].append([at, *numbers, *(list(b) or None for b in begun)])
    names = detailed(trace, step.watched)
    for p in trace.parameters:
        left = [at, p.traffic, p.mass, p.dead, p.unread, p.non_finite]
        rows.left[vertex_key(graph.fingerprint, p.vertex)].append(left)
        if p.strongest is not None:
            dominant = _dominant(at, p, p.strongest, p.parameter in names)
            rows.dominant[path_hash(graph.fingerprint, p.strongest.vertices)].append(dominant)
    for r in trace.routes:
        rows.top[route_hash(r.route)].append([at, r.parameter, r.traffic, r.mass, r.rank])
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


def _dominant(at: int, p: ParameterTrace, path: DominantPath, arrays: bool) -> Row:
    return [
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
