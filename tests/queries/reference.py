"""The answers to the library's questions, worked out in plain Python from StepTraces: no store, no Cypher.

Each function takes the runs by id and the question's parameters, all filled in, and returns the rows in order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from gradtrace.service.store.keys import path_hash
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.steptrace import BatchTrace, DominantPath, StepTrace, route_text
from tests.queries.worlds import Run
from tests.synthetic import collapse

Rows = list[dict[str, Any]]
ANSWERS: dict[str, Callable[..., Rows]] = {}


def answers(name: str) -> Callable[[Callable[..., Rows]], Callable[..., Rows]]:
    """Register the answer to a question."""

    def register(function: Callable[..., Rows]) -> Callable[..., Rows]:
        ANSWERS[name] = function
        return function

    return register


def traced(run: Run | None, mode: str | None, batch: str | None) -> list[tuple[StepTrace, BatchTrace]]:
    """The traces of a run in one mode on one batch, in order of steps."""
    found = [(s, t) for s in (run.steps if run else ()) for t in s.traces if (t.mode, t.batch) == (mode, batch)]
    return sorted(found, key=lambda pair: pair[0].step)


def finite(values: Iterable[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]


def total_mass(trace: BatchTrace) -> float:
    return math.fsum(p.mass for p in trace.parameters)


def primary(step: StepTrace) -> BatchTrace:
    return min(step.traces, key=lambda t: t.batch != "training")


def route_of(graph: Graph, path: DominantPath) -> tuple[str, ...]:
    """Tokens of the route of a path."""
    places = (graph.vertices[v].component for v in path.vertices)
    return collapse(tuple(c for c in places if c is not None))


def at(runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int) -> list[BatchTrace]:
    """The trace, if it is there. Flow and peak are one for all modes of a batch; the store keeps the first mode's."""
    found = []
    for s, t in traced(runs.get(run), mode, batch):
        if s.step == step:
            first = primary(s)
            found.append(replace(t, flow=first.flow, peak=first.peak) if t.batch == first.batch else t)
    return found


def _epochs(pairs: list[tuple[StepTrace, BatchTrace]], epoch: int | None) -> dict[int, list[BatchTrace]]:
    found: dict[int, list[BatchTrace]] = defaultdict(list)
    for step, trace in pairs:
        if epoch is None or step.epoch == epoch:
            found[step.epoch].append(trace)
    return dict(sorted(found.items()))


def _component_sums(traces: list[BatchTrace]) -> dict[str, dict[str, Any]]:
    """Per component: sums over the traces that know it."""
    sums: dict[str, dict[str, Any]] = {}
    for t in traces:
        for c in t.components:
            row = sums.setdefault(c.component, defaultdict(float) | {"contested": 0, "won": 0, "steps": 0})
            row["mass"] += c.mass
            row["foreign"] += c.foreign
            row["total"] += total_mass(t)
            row["visits"] += c.visits
            row["contested"] += c.contested
            row["won"] += c.won
            row["steps"] += 1
            row["role"] = t.graph.component_by_path[c.component].role
    return sums


@answers("components-by-epoch")
def components_by_epoch(
    runs: Mapping[str, Run], run: str, mode: str, batch: str, epoch: int | None, order_by: str, limit: int
) -> Rows:
    rows: Rows = []
    for number, traces in _epochs(traced(runs.get(run), mode, batch), epoch).items():
        here = [
            {
                "epoch": number,
                "component": name,
                "share": s["mass"] / s["total"] if s["total"] else 0.0,
                "foreign_share": s["foreign"] / s["total"] if s["total"] else 0.0,
                "win_rate": s["won"] / s["contested"] if s["contested"] else None,
                "visits": s["visits"] / s["steps"],
                "steps": s["steps"],
            }
            for name, s in _component_sums(traces).items()
            if name != "<model>"
        ]

        def order(row: dict[str, Any]) -> tuple[float, float, str]:
            first = -1.0 if row[order_by] is None else row[order_by]
            return (-round(first, 12), -round(row["share"], 12), row["component"])

        here.sort(key=order)
        rows += [{**row, "rank": rank} for rank, row in enumerate(here[:limit], 1)]
    return rows


@answers("win-rates")
def win_rates(
    runs: Mapping[str, Run],
    run: str,
    mode: str,
    batch: str,
    epoch: int | None,
    component: str | None,
    limit: int,
) -> Rows:
    rows: Rows = []
    for number, traces in _epochs(traced(runs.get(run), mode, batch), epoch).items():
        here = [
            {
                "epoch": number,
                "component": name,
                "role": s["role"],
                "contested": s["contested"],
                "won": s["won"],
                "win_rate": s["won"] / s["contested"],
                "share": s["mass"] / s["total"] if s["total"] else 0.0,
                "steps": s["steps"],
            }
            for name, s in _component_sums(traces).items()
            if s["contested"] and component in (None, name)
        ]
        rows += sorted(here, key=lambda r: (-r["contested"], r["component"]))
    return rows[:limit]


@answers("component-over-time")
def component_over_time(runs: Mapping[str, Run], run: str, component: str, mode: str, batch: str) -> Rows:
    rows: Rows = []
    for step, trace in traced(runs.get(run), mode, batch):
        for c in trace.components:
            if c.component == component:
                total = total_mass(trace)
                rows.append(
                    {
                        "step": step.step,
                        "epoch": step.epoch,
                        "loss": trace.loss,
                        "share": c.share,
                        "foreign_share": c.foreign / total if total else 0.0,
                        "win_rate": c.won / c.contested if c.contested else None,
                        "contested": c.contested,
                        "visits": c.visits,
                        "traffic": c.traffic,
                        "mass": c.mass,
                        "flow": c.flow,
                    }
                )
    return rows


@answers("parameter-path")
def parameter_path(
    runs: Mapping[str, Run], run: str, parameter: str, mode: str, batch: str, changes_only: bool
) -> Rows:
    rows: Rows = []
    before: list[str] | None = None
    for step, trace in traced(runs.get(run), mode, batch):
        for p in (p for p in trace.parameters if p.parameter == parameter):
            d = p.strongest
            names = [trace.graph.vertices[v].name for v in d.vertices] if d else []
            rows.append(
                {
                    "step": step.step,
                    "epoch": step.epoch,
                    "changed": None if before is None else names != before,
                    "route": route_text(route_of(trace.graph, d)) if d else None,
                    "length": len(names),
                    "share": d.share if d else None,
                    "mass": d.mass if d else None,
                    "margin": d.margin if d else None,
                    "concentration": d.concentration if d else None,
                    "scalar": d.scalar if d else None,
                    "example": d.example if d else None,
                    "time": d.time if d else None,
                    "path": path_hash(trace.graph.fingerprint, d.vertices) if d else None,
                    "operators": None if names == before else names,
                }
            )
            before = names
    return [r for r in rows if not changes_only or r["changed"] in (None, True)]


@answers("hottest-edges")
def hottest_edges(
    runs: Mapping[str, Run], run: str, mode: str, batch: str, epoch: int | None, order_by: str, limit: int
) -> Rows:
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    total = 0.0
    for step, trace in traced(runs.get(run), mode, batch):
        if epoch not in (None, step.epoch):
            continue
        total += total_mass(trace)
        for e in trace.graph.edges:
            a, b = trace.graph.vertices[e.source], trace.graph.vertices[e.target]
            row = found.setdefault(
                (a.name, b.name, e.slot),
                {
                    "source": a.name,
                    "target": b.name,
                    "slot": e.slot,
                    "source_component": a.component,
                    "target_component": b.component,
                    "flow": 0.0,
                    "peak": 0.0,
                    "traffic": 0,
                    "mass": 0.0,
                    "steps": 0,
                    "graphs": set(),
                },
            )
            row["flow"] += sum(finite([trace.flow[e.idx]]))
            row["peak"] = max([row["peak"], *finite([trace.peak[e.idx]])])
            row["traffic"] += int(trace.traffic[e.idx])
            row["mass"] += trace.mass[e.idx]
            row["steps"] += 1
            row["graphs"].add(trace.graph.fingerprint)
    rows = [
        {**row, "graphs": len(row["graphs"]), "share": row["mass"] / total if total else 0.0} for row in found.values()
    ]
    rows.sort(key=lambda r: (-r[order_by], r["source"], r["target"], r["slot"]))
    return rows[:limit]


@answers("graph-at-step")
def graph_at_step(runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int) -> Rows:
    return [
        {
            "edge": e.idx,
            "source": t.graph.vertices[e.source].name,
            "source_kind": t.graph.vertices[e.source].kind,
            "source_component": t.graph.vertices[e.source].component,
            "target": t.graph.vertices[e.target].name,
            "target_op": t.graph.vertices[e.target].op,
            "target_component": t.graph.vertices[e.target].component,
            "slot": e.slot,
            "flow": float(t.flow[e.idx]),
            "peak": float(t.peak[e.idx]),
            "traffic": int(t.traffic[e.idx]),
            "mass": float(t.mass[e.idx]),
            "dominant": bool(t.dominant[e.idx]),
        }
        for t in at(runs, run, mode, batch, step)
        for e in t.graph.edges
    ]


@answers("vertices-at-step")
def vertices_at_step(runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int) -> Rows:
    rows: Rows = []
    for t in at(runs, run, mode, batch, step):
        for v in t.graph.vertices:
            into = [e.idx for e in t.graph.edges if e.target == v.idx]
            out = [e for e in t.graph.edges if e.source == v.idx]
            chosen = [t.graph.vertices[e.target].name for e in out if t.dominant[e.idx]]
            rows.append(
                {
                    "vertex": v.idx,
                    "name": v.name,
                    "kind": v.kind,
                    "op": v.op,
                    "component": v.component,
                    "shape": list(v.shape),
                    "time": v.time,
                    "traffic_in": sum(int(t.traffic[i]) for i in into),
                    "traffic_out": sum(int(t.traffic[e.idx]) for e in out),
                    "mass_in": float(sum(t.mass[i] for i in into)),
                    "mass_out": float(sum(t.mass[e.idx] for e in out)),
                    "next": chosen[0] if chosen else None,
                }
            )
    return rows


@answers("dominant-tree")
def dominant_tree(runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int, limit: int) -> Rows:
    rows: Rows = []
    for t in at(runs, run, mode, batch, step):
        way = {e.source: e for e in t.graph.edges if t.dominant[e.idx]}
        total = total_mass(t)
        for v in t.graph.vertices:
            line = [v.idx]
            while line[-1] in way:
                line.append(way[line[-1]].target)
            if line[-1] != t.graph.loss.idx:
                continue
            e = way.get(v.idx)
            rows.append(
                {
                    "depth": len(line) - 1,
                    "vertex": v.name,
                    "kind": v.kind,
                    "component": v.component,
                    "next": t.graph.vertices[e.target].name if e else None,
                    "slot": e.slot if e else None,
                    "mass": float(t.mass[e.idx]) if e else None,
                    "traffic": int(t.traffic[e.idx]) if e else None,
                    "flow": float(t.flow[e.idx]) if e else None,
                    "share": float(t.mass[e.idx]) / total if e and total else None,
                    "_idx": v.idx,
                }
            )
    rows.sort(key=lambda r: (r["depth"], -(r["mass"] or 0.0), r.pop("_idx")))
    return rows[:limit]


@answers("dominant-walk")
def dominant_walk(runs: Mapping[str, Run], run: str, parameter: str, mode: str, batch: str, step: int) -> Rows:
    rows: Rows = []
    for t in at(runs, run, mode, batch, step):
        way = {e.source: e for e in t.graph.edges if t.dominant[e.idx]}
        for start in (v.idx for v in t.graph.vertices if v.kind == "parameter" and v.name == parameter):
            here = start
            while here in way:
                e = way[here]
                v = t.graph.vertices[e.target]
                rows.append(
                    {
                        "hop": len(rows) + 1,
                        "operator": v.name,
                        "op": v.op,
                        "component": v.component,
                        "flow": float(t.flow[e.idx]),
                        "traffic": int(t.traffic[e.idx]),
                        "mass": float(t.mass[e.idx]),
                    }
                )
                here = e.target
    return rows


@answers("top-routes")
def top_routes(
    runs: Mapping[str, Run],
    run: str,
    parameter: str,
    mode: str,
    batch: str,
    epoch: int | None,
    step: int | None,
    limit: int,
) -> Rows:
    found: dict[tuple[str, ...] | None, dict[str, Any]] = {}
    for s, t in traced(runs.get(run), mode, batch):
        if epoch not in (None, s.epoch) or step not in (None, s.step):
            continue
        for r in t.routes:
            if r.parameter != parameter:
                continue
            row = found.setdefault(r.route, {"mass": 0.0, "traffic": 0, "ranks": [], "numbers": []})
            row["mass"] += r.mass
            row["traffic"] += r.traffic
            row["ranks"].append(r.rank)
            row["numbers"].append(s.step)
    total = math.fsum(row["mass"] for row in found.values())
    order = sorted(found, key=lambda r: (r is None, -found[r]["mass"], "other" if r is None else route_text(r)))
    return [
        {
            "route": "other" if route is None else route_text(route),
            "share": row["mass"] / total if total else 0.0,
            "mass": row["mass"],
            "traffic": row["traffic"],
            "steps": len(row["numbers"]),
            "best_rank": min(row["ranks"]),
            "first_step": min(row["numbers"]),
            "last_step": max(row["numbers"]),
        }
        for route, row in ((r, found[r]) for r in order[:limit])
    ]
