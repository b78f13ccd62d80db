"""More answers in plain Python: what the components and routes of a run did at some of its steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from gradtrace.tracer.steptrace import BatchTrace, StepTrace, route_text
from tests.queries.reference import Rows, answers, at, route_of, total_mass, traced
from tests.queries.worlds import Run


def spread(pairs: list[tuple[StepTrace, BatchTrace]], points: int) -> list[tuple[StepTrace, BatchTrace]]:
    """As many of them at even distances, the first and the last among them."""
    if len(pairs) <= points:
        return pairs
    return [pairs[i * (len(pairs) - 1) // (points - 1)] for i in range(points)]


@answers("components-over-time")
def components_over_time(runs: Mapping[str, Run], run: str, mode: str, batch: str, points: int) -> Rows:
    return [
        {
            "step": step.step,
            "epoch": step.epoch,
            "loss": trace.loss,
            "component": c.component,
            "share": c.share,
            "foreign_share": c.foreign / total_mass(trace) if c.mass else 0.0,
            "win_rate": c.won / c.contested if c.contested else None,
        }
        for step, trace in spread(traced(runs.get(run), mode, batch), points)
        for c in sorted(trace.components, key=lambda c: c.component)
    ]


@answers("component-graph")
def component_graph(runs: Mapping[str, Run], run: str, mode: str, batch: str, points: int) -> Rows:
    rows: Rows = []
    for step, trace in spread(traced(runs.get(run), mode, batch), points):
        ways: dict[tuple[str, str], list[int]] = defaultdict(list)
        for e in trace.graph.edges:
            a, b = trace.graph.vertices[e.source], trace.graph.vertices[e.target]
            if a.kind != "constant" and a.component != b.component:
                ways[a.component or "", b.component or ""].append(e.idx)
        total = total_mass(trace)
        for (source, target), edges in sorted(ways.items()):
            mass = float(sum(trace.mass[i] for i in edges))
            rows.append(
                {
                    "step": step.step,
                    "epoch": step.epoch,
                    "source": source or None,
                    "target": target or None,
                    "share": mass / total if total else 0.0,
                    "mass": mass,
                    "traffic": sum(int(trace.traffic[i]) for i in edges),
                    "edges": len(edges),
                }
            )
    return rows


@answers("routes-over-time")
def routes_over_time(
    runs: Mapping[str, Run], run: str, mode: str, batch: str, parameter: str, points: int, limit: int
) -> Rows:
    return [
        {
            "step": step.step,
            "epoch": step.epoch,
            "rank": r.rank,
            "route": "other" if r.route is None else route_text(r.route),
            "tokens": list(r.route or ()),
            "share": r.share,
            "mass": r.mass,
            "traffic": r.traffic,
        }
        for step, trace in spread(traced(runs.get(run), mode, batch), points)
        for r in sorted(trace.routes, key=lambda r: r.rank)
        if r.parameter == parameter and r.rank <= limit
    ]


@answers("parameters-at-step")
def parameters_at_step(runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int, limit: int) -> Rows:
    rows: Rows = []
    for t in at(runs, run, mode, batch, step):
        total = total_mass(t)
        for p in t.parameters:
            d = p.strongest
            rows.append(
                {
                    "parameter": p.parameter,
                    "shape": list(p.shape),
                    "live": p.traffic,
                    "dead": p.dead,
                    "unread": p.unread,
                    "non_finite": p.non_finite,
                    "mass": float(p.mass),
                    "share": p.mass / total if total else 0.0,
                    "route": route_text(route_of(t.graph, d)) if d else None,
                    "length": len(d.vertices) if d else None,
                    "scalar": d.scalar if d else None,
                    "strongest": d.mass if d else None,
                    "margin": d.margin if d else None,
                    "concentration": d.concentration if d else None,
                    "example": d.example if d else None,
                    "time": d.time if d else None,
                }
            )
    rows.sort(key=lambda r: (-r["mass"], r["parameter"]))
    return rows[:limit]
