"""Answers in plain Python to the questions about paths over a run, and about steps that are not finite."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.steptrace import route_text
from tests.queries.reference import Rows, answers, total_mass, traced
from tests.queries.worlds import Run
from tests.synthetic import collapse

Taken = dict[tuple[str, tuple[int, ...]], list[int]]  # steps by graph and operators


def _taken(runs: Mapping[str, Run], run: str, mode: str, batch: str) -> tuple[dict[str, Taken], dict[str, Graph]]:
    """By parameter the paths that it took, and the graphs by fingerprint."""
    found: dict[str, Taken] = defaultdict(lambda: defaultdict(list))
    graphs = {}
    for step, trace in traced(runs.get(run), mode, batch):
        graphs[trace.graph.fingerprint] = trace.graph
        for p in trace.parameters:
            if p.strongest is not None:
                found[p.parameter][trace.graph.fingerprint, p.strongest.vertices].append(step.step)
    return found, graphs


@answers("path-stability")
def path_stability(runs: Mapping[str, Run], run: str, mode: str, batch: str, limit: int) -> Rows:
    found, graphs = _taken(runs, run, mode, batch)
    rows: Rows = []
    for parameter, taken in found.items():
        (fingerprint, line), at = max(taken.items(), key=lambda item: (len(item[1]), -min(item[1])))
        graph = graphs[fingerprint]
        places = (graph.vertices[v].component for v in line)
        steps = sum(map(len, taken.values()))
        rows.append(
            {
                "parameter": parameter,
                "steps": steps,
                "paths": len(taken),
                "main_share": len(at) / steps,
                "route": route_text(collapse(tuple(c for c in places if c is not None))),
                "first_step": min(at),
                "last_step": max(at),
            }
        )
    rows.sort(key=lambda r: (r["main_share"], -r["paths"], r["parameter"]))
    return rows[:limit]


@answers("busiest-operators")
def busiest_operators(runs: Mapping[str, Run], run: str, mode: str, batch: str, limit: int) -> Rows:
    found, graphs = _taken(runs, run, mode, batch)
    crossings: dict[tuple[str, str, str | None], int] = defaultdict(int)
    by: dict[tuple[str, str, str | None], set[str]] = defaultdict(set)
    total = 0
    for parameter, taken in found.items():
        for (fingerprint, line), at in taken.items():
            total += len(at)
            for v in {graphs[fingerprint].vertices[idx] for idx in line}:
                crossings[v.name, v.op, v.component] += len(at)
                by[v.name, v.op, v.component].add(parameter)
    rows: Rows = [
        {
            "operator": name,
            "op": op,
            "component": component,
            "share": count / total,
            "parameters": len(by[name, op, component]),
            "crossings": count,
        }
        for (name, op, component), count in crossings.items()
    ]
    rows.sort(key=lambda r: (-r["crossings"], r["operator"]))
    return rows[:limit]


@answers("share-across-runs")
def share_across_runs(
    runs: Mapping[str, Run], experiment: str, workload: str | None, mode: str, batch: str, limit: int
) -> Rows:
    shares: dict[str, list[float]] = defaultdict(list)
    for run in runs.values():
        if run.record.experiment != experiment or workload not in (None, run.record.workload):
            continue
        pairs = traced(run, mode, batch)
        last = [t for s, t in pairs if s.epoch == pairs[-1][0].epoch]
        mass: dict[str, float] = defaultdict(float)
        total: dict[str, float] = defaultdict(float)
        for t in last:
            for c in t.components:
                mass[c.component] += c.mass
                total[c.component] += total_mass(t)
        for name in mass.keys() - {"<model>"}:
            shares[name].append(mass[name] / total[name] if total[name] else 0.0)
    rows: Rows = [
        {
            "component": name,
            "runs": len(held),
            "share": statistics.fmean(held),
            "deviation": statistics.stdev(held) if len(held) > 1 else 0.0,
            "least": min(held),
            "greatest": max(held),
        }
        for name, held in shares.items()
    ]
    rows.sort(key=lambda r: (-round(r["share"], 12), r["component"]))
    return rows[:limit]


@answers("non-finite-steps")
def non_finite_steps(runs: Mapping[str, Run], run: str, limit: int) -> Rows:
    rows: Rows = []
    for s in runs[run].steps if run in runs else ():
        if any(t.non_finite for t in s.traces):
            bad = sorted((t for t in s.traces if t.non_finite), key=lambda t: (t.batch == "probe", t.mode))
            rows.append(
                {
                    "step": s.step,
                    "epoch": s.epoch,
                    "loss": s.loss,
                    "traces": [f"{t.mode}/{t.batch}" for t in bad],
                    "parameters": sorted({p.parameter for t in s.traces for p in t.parameters if p.non_finite}),
                    "scalars": max(sum(p.non_finite for p in t.parameters) for t in s.traces),
                }
            )
    return rows[:limit]
