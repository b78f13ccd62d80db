"""Answers in plain Python to the questions about examples, time steps, changes of paths and dead scalars."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping

from gradtrace.tracer.steptrace import BatchTrace, StepTrace, route_text
from tests.queries.reference import Rows, answers, route_of, traced
from tests.queries.reference_over_time import spread
from tests.queries.worlds import Run


def _looked_at(run: Run | None, mode: str, batch: str, step: int | None, points: int) -> list[BatchTrace]:
    pairs: list[tuple[StepTrace, BatchTrace]] = [
        (s, t) for s, t in traced(run, mode, batch) if step is None or s.step == step
    ]
    return [t for _, t in spread(pairs, points)]


def _begun(traces: list[BatchTrace], word: str, component: str | None, limit: int) -> Rows:
    whole: dict[str, float] = defaultdict(float)
    masses: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for t in traces:
        for c in t.components:
            if component in (None, c.component):
                whole[c.component] += c.mass
                places, parts = (c.times, c.time_mass) if word == "time" else (c.examples, c.example_mass)
                for place, mass in zip(places, parts, strict=True):
                    masses[c.component][place].append(mass)
    rows: Rows = []
    for name, found in sorted(masses.items()):
        best = sorted(found.items(), key=lambda item: (-round(math.fsum(item[1]) / whole[name], 12), item[0]))
        for rank, (place, held) in enumerate(best[:limit], 1):
            mass = math.fsum(held)
            rows.append(
                {
                    "component": name,
                    "rank": rank,
                    word: place,
                    "share": mass / whole[name],
                    "mass": mass,
                    "steps": len(held),
                }
            )
    return rows


@answers("dominant-examples")
def dominant_examples(
    runs: Mapping[str, Run],
    run: str,
    mode: str,
    batch: str,
    component: str | None,
    step: int | None,
    points: int,
    limit: int,
) -> Rows:
    return _begun(_looked_at(runs.get(run), mode, batch, step, points), "example", component, limit)


@answers("dominant-times")
def dominant_times(
    runs: Mapping[str, Run],
    run: str,
    mode: str,
    batch: str,
    component: str | None,
    step: int | None,
    points: int,
    limit: int,
) -> Rows:
    return _begun(_looked_at(runs.get(run), mode, batch, step, points), "time", component, limit)


@answers("dominant-places")
def dominant_places(
    runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int | None, points: int, limit: int
) -> Rows:
    steps: Counter[str] = Counter()
    taken: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for t in _looked_at(runs.get(run), mode, batch, step, points):
        for p in t.parameters:
            if p.strongest is not None:
                steps[p.parameter] += 1
                for word, place in (("example", p.strongest.example), ("time", p.strongest.time)):
                    if place is not None:
                        taken[p.parameter, word][place] += 1
    rows: Rows = []
    for parameter, count in sorted(steps.items()):
        row: dict[str, object] = {"parameter": parameter, "steps": count}
        for word in ("example", "time"):
            found = sorted(taken[parameter, word].items(), key=lambda item: (-item[1], item[0]))
            row[word] = found[0][0] if found else None
            row[f"{word}_share"] = found[0][1] / count if found else 0.0
            row[f"{word}s"] = len(found)
        rows.append(row)
    return rows[:limit]


@answers("first-changes")
def first_changes(runs: Mapping[str, Run], run: str, mode: str, batch: str, limit: int) -> Rows:
    rows: dict[str, dict[str, object]] = {}
    kept: dict[str, list[str]] = {}
    for step, trace in traced(runs.get(run), mode, batch):
        for p in trace.parameters:
            if p.strongest is None:
                continue
            route = route_text(route_of(trace.graph, p.strongest))
            line = [trace.graph.vertices[v].name for v in p.strongest.vertices]
            if p.parameter not in rows:
                kept[p.parameter] = line
                rows[p.parameter] = {"parameter": p.parameter, "first_step": step.step, "route": route}
                rows[p.parameter] |= dict.fromkeys(("path_step", "before", "after", "route_step", "new_route"))
            row, old = rows[p.parameter], kept[p.parameter]
            if row["path_step"] is None and line != old:
                fork = next((i for i, (a, b) in enumerate(zip(old, line, strict=False)) if a != b), None)
                if fork is None:
                    fork = min(len(old), len(line))
                row["path_step"] = step.step
                row["before"] = old[fork] if fork < len(old) else None
                row["after"] = line[fork] if fork < len(line) else None
            if row["route_step"] is None and route != row["route"]:
                row["route_step"], row["new_route"] = step.step, route
    ordered = sorted(
        rows.values(),
        key=lambda r: (r["path_step"] is None, r["path_step"] or 0, r["parameter"]),
    )
    return ordered[:limit]


@answers("dead-over-time")
def dead_over_time(
    runs: Mapping[str, Run], run: str, mode: str, batch: str, parameter: str | None, points: int
) -> Rows:
    rows: Rows = []
    for step, trace in spread(traced(runs.get(run), mode, batch), points):
        held = [p for p in trace.parameters if parameter in (None, p.parameter)]
        if not held:
            continue
        scalars = sum(math.prod(p.shape) for p in held)
        without = sum(p.dead + p.unread for p in held)
        rows.append(
            {
                "step": step.step,
                "epoch": step.epoch,
                "parameters": len(held),
                "silent": sum(p.traffic == 0 for p in held),
                "scalars": scalars,
                "live": scalars - without,
                "dead": sum(p.dead for p in held),
                "unread": sum(p.unread for p in held),
                "non_finite": sum(p.non_finite for p in held),
                "dead_share": without / scalars,
            }
        )
    return rows
