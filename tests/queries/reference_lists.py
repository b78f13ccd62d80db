"""More answers in plain Python: lists of steps, runs, names and sizes. `ANSWERS` is whole once this is imported."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from gradtrace.tracer.steptrace import BatchTrace, StepTrace
from tests.queries.reference import ANSWERS as ANSWERS
from tests.queries.reference import Rows, answers, at, finite, primary, route_of, traced
from tests.queries.reference_over_time import components_over_time as components_over_time
from tests.queries.reference_paths import path_stability as path_stability
from tests.queries.reference_places import dominant_places as dominant_places
from tests.queries.reference_scalars import scalar_path as scalar_path
from tests.queries.reference_turns import dominance_shifts as dominance_shifts
from tests.queries.worlds import Run


@answers("dead-parameters")
def dead_parameters(runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int, limit: int) -> Rows:
    rows = [
        {
            "parameter": p.parameter,
            "shape": list(p.shape),
            "scalars": math.prod(p.shape),
            "live": p.traffic,
            "dead": p.dead,
            "unread": p.unread,
            "non_finite": p.non_finite,
            "dead_share": (p.dead + p.unread) / math.prod(p.shape),
        }
        for t in at(runs, run, mode, batch, step)
        for p in t.parameters
        if p.dead or p.unread or p.non_finite
    ]
    rows.sort(key=lambda r: (-r["dead_share"], -r["scalars"], r["parameter"]))
    return rows[:limit]


@answers("run-steps")
def run_steps(runs: Mapping[str, Run], run: str, limit: int) -> Rows:
    steps = sorted(runs[run].steps, key=lambda s: s.step) if run in runs else []
    return [
        {
            "step": s.step,
            "epoch": s.epoch,
            "loss": s.loss,
            "traces": [f"{m}/{b}" for b in ("training", "probe") for m in ("greedy", "maxprod") if _has(s, m, b)],
            "graph": primary(s).graph.fingerprint,
            "non_finite": s.non_finite,
            "notes": list(s.notes),
        }
        for s in steps[:limit]
    ]


def _has(step: StepTrace, mode: str, batch: str) -> bool:
    return any((t.mode, t.batch) == (mode, batch) for t in step.traces)


@answers("runs")
def all_runs(
    runs: Mapping[str, Run], status: str | None, workload: str | None, experiment: str | None, limit: int
) -> Rows:
    rows: Rows = []
    for run in reversed(runs.values()):  # announced one after the other
        now = run.status or "RUNNING"
        if (
            status in (None, now)
            and workload in (None, run.record.workload)
            and experiment in (None, run.record.experiment)
        ):
            last = max(run.steps, key=lambda s: s.step, default=None)
            rows.append(
                {
                    "run": run.record.id,
                    "workload": run.record.workload,
                    "experiment": run.record.experiment,
                    "status": now,
                    "steps": len(run.steps),
                    "last_step": last.step if last else None,
                    "epoch": last.epoch if last else None,
                    "loss": last.loss if last else None,
                    "parameters": sorted(f"{k}={v}" for k, v in run.record.parameters.items() if v is not None),
                    "reason": run.reason,
                }
            )
    return rows[:limit]


@answers("run-ids")
def run_ids(runs: Mapping[str, Run], most: int) -> Rows:
    newest = list(reversed(runs.values()))
    ordered = [r for r in newest if r.steps] + [r for r in newest if not r.steps]
    return [{"run": r.record.id, "steps": len(r.steps)} for r in ordered[:most]]


@answers("traced-modes")
def traced_modes(runs: Mapping[str, Run], run: str, mode: str | None) -> Rows:
    rows = []
    for m in ("greedy", "maxprod"):
        for b in ("training", "probe"):
            count = len(traced(runs.get(run), m, b))
            if count and mode in (None, m):
                rows.append({"mode": m, "batch": b, "steps": count})
    return rows


@answers("traced-steps")
def traced_steps(runs: Mapping[str, Run], run: str, mode: str, batch: str, most: int) -> Rows:
    return [{"step": s.step} for s, _ in reversed(traced(runs.get(run), mode, batch))][:most]


@answers("epochs")
def epochs(runs: Mapping[str, Run], run: str) -> Rows:
    losses: dict[int, list[float]] = defaultdict(list)
    for s in runs[run].steps if run in runs else ():
        losses[s.epoch].append(s.loss)
    return [
        {"epoch": e, "steps": len(v), "loss": math.fsum(finite(v)) / len(finite(v)) if finite(v) else None}
        for e, v in sorted(losses.items())
    ]


@answers("component-names")
def component_names(runs: Mapping[str, Run], run: str) -> Rows:
    found = {
        c.path: {"component": c.path, "depth": c.depth, "role": c.role}
        for s in (runs[run].steps if run in runs else ())
        for t in s.traces
        for c in t.graph.components
    }
    return [found[path] for path in sorted(found)]


@answers("parameter-names")
def parameter_names(runs: Mapping[str, Run], run: str) -> Rows:
    found = {
        (v.name, v.shape)
        for s in (runs[run].steps if run in runs else ())
        for t in s.traces
        for v in t.graph.vertices
        if v.kind == "parameter"
    }
    return [{"parameter": name, "shape": list(shape)} for name, shape in sorted(found)]


@answers("store-size")
def store_size(runs: Mapping[str, Run]) -> Rows:
    """Counts from the StepTraces, for the labels and types whose number follows from them at once."""
    steps = [s for run in runs.values() for s in run.steps]
    traces = [t for s in steps for t in s.traces]
    graphs = {t.graph.fingerprint: t.graph for t in traces}
    models = {t.graph.architecture_hash: t.graph for t in traces}
    vertices = [v for g in graphs.values() for v in g.vertices]
    counts = {
        ("node", "Run"): len(runs),
        ("node", "Experiment"): len({r.record.experiment for r in runs.values()}),
        ("node", "Step"): len(steps),
        ("node", "Trace"): len(traces),
        ("node", "Graph"): len(graphs),
        ("node", "Architecture"): len(models),
        ("node", "Component"): sum(len(g.components) for g in models.values()),
        ("node", "Vertex"): len(vertices),
        ("node", "Parameter"): sum(v.kind == "parameter" for v in vertices),
        ("node", "Route"): len({r.route for t in traces for r in t.routes} | _path_routes(traces)),
        ("node", "Path"): len(
            {(t.graph.fingerprint, p.strongest.vertices) for t in traces for p in t.parameters if p.strongest}
        ),
        ("relationship", "IN"): len(runs),
        ("relationship", "HAS_STEP"): len(steps),
        ("relationship", "HAS_TRACE"): len(traces),
        ("relationship", "EDGE"): sum(len(g.edges) for g in graphs.values()),
        ("relationship", "BELONGS_TO"): sum(v.component is not None for v in vertices),
        ("relationship", "CARRIES"): sum(len(t.components) for t in traces),
        ("relationship", "TOP"): sum(len(t.routes) for t in traces),
        ("relationship", "LEFT"): sum(len(t.parameters) for t in traces),
        ("relationship", "DOMINANT"): sum(p.strongest is not None for t in traces for p in t.parameters),
        ("node", "ScalarGraph"): sum(len(s.scalars) for s in steps),
        ("node", "Scalar"): sum(len(t.scalars.vertex) for s in steps for t in s.scalars),
        ("relationship", "WEIGHS"): sum(len(t.scalars.weight) for s in steps for t in s.scalars),
        ("relationship", "ON"): len(steps) + len(traces),  # and the paths and epochs, see the test
    }
    return [{"kind": kind, "name": name, "count": count} for (kind, name), count in counts.items()]


def _path_routes(traces: list[BatchTrace]) -> set[tuple[str, ...] | None]:
    return {route_of(t.graph, p.strongest) for t in traces for p in t.parameters if p.strongest}
