"""Answers in plain Python to the questions about turns in many runs, about converged and about unfinished runs."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.queries.reference import Rows, answers
from tests.queries.reference_many import by_epoch, chosen, deviation, last, mean_loss, order, routes_at_end, series
from tests.queries.worlds import Run


@answers("vanished-or-took-over")
def vanished_or_took_over(
    runs: Mapping[str, Run],
    experiment: str,
    workload: str | None,
    component: str | None,
    measure: str,
    factor: float,
    least_share: float,
    mode: str,
    batch: str,
    limit: int,
) -> Rows:
    rows: Rows = []
    for run, epochs in series(runs, experiment, workload, mode, batch):
        lines: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for epoch, found in epochs.items():
            for name, row in found.items():
                if component in (None, name):
                    lines[name].append((epoch, row))
        for name, line in lines.items():
            start = line[0][1]
            for change in ("vanished", "took over"):
                for epoch, row in line[1:]:
                    then, before = row[measure], start[measure]
                    small = max(row["share"], start["share"]) < least_share
                    down = change == "vanished" and then < before and then * factor <= before
                    up = change == "took over" and then > before and then >= before * factor
                    if not small and (down or up):
                        rows.append(
                            {
                                "run": run.record.id,
                                "component": name,
                                "change": change,
                                "epoch": epoch,
                                "before": before,
                                "then": then,
                                "last": line[-1][1][measure],
                                "last_epoch": line[-1][0],
                            }
                        )
                        break
    rows.sort(key=lambda r: (r["epoch"], r["run"], r["component"], r["change"]))
    return rows[:limit]


@answers("dominance-shifts")
def _dominance_shifts(found: Mapping[str, Run], /, **asked: Any) -> Rows:
    return dominance_shifts(found, newest=asked.pop("runs"), **asked)  # named like the runs themselves


def dominance_shifts(
    runs: Mapping[str, Run],
    experiment: str,
    workload: str | None,
    measure: str,
    mode: str,
    batch: str,
    limit: int,
    newest: int,
) -> Rows:
    rows: Rows = []
    for run, epochs in list(series(runs, experiment, workload, mode, batch))[-newest:]:
        losses = {epoch: mean_loss(traces) for epoch, traces in by_epoch(run, mode, batch).items()}
        rivals = {
            n for found in epochs.values() for n, row in found.items() if row["innermost"] and row["share"] < 1 - 1e-9
        }
        leader = None
        for epoch, found in epochs.items():
            values = {n: row[measure] for n, row in found.items() if n in rivals and row[measure] is not None}
            if not values:
                continue
            now = min(values, key=lambda n, v=values: order(v[n], n))  # type: ignore[misc]
            if leader not in (None, now):
                rows.append(
                    {
                        "run": run.record.id,
                        "epoch": epoch,
                        "before": leader,
                        "after": now,
                        "value": values[now],
                        "lead": values[now] - values.get(leader or "", 0.0),
                        "loss": losses[epoch],
                    }
                )
            leader = now
    rows.sort(key=lambda r: (r["run"], r["epoch"]))
    return rows[:limit]


@answers("routes-of-converged-runs")
def routes_of_converged_runs(
    runs: Mapping[str, Run],
    experiment: str,
    workload: str | None,
    loss: float | None,
    least: float,
    most: float,
    parameter: str,
    mode: str,
    batch: str,
    limit: int,
) -> Rows:
    here = chosen(runs, experiment, workload)
    losses = {r.record.id: mean_loss(last(r, mode, batch)) for r in here}
    known = [x for x in losses.values() if x is not None]
    threshold = loss if loss is not None else statistics.median(known) if known else None
    good, bad = [], []
    for run in here:
        end = losses[run.record.id]
        converged = end is not None and threshold is not None and end <= threshold and run.status != "FAILED"
        (good if converged else bad).append(routes_at_end(run, mode, batch, parameter))
    rows: Rows = []
    for route in {name for shares in good for name in shares}:
        held = [shares[route] for shares in good if route in shares]
        others = sum(route in shares for shares in bad)
        if len(held) >= least * len(good) and others <= most * len(bad):
            rows.append(
                {
                    "route": route,
                    "share": statistics.fmean(held),
                    "deviation": deviation(held),
                    "converged": len(held),
                    "converged_runs": len(good),
                    "others": others,
                    "other_runs": len(bad),
                    "threshold": threshold,
                }
            )
    rows.sort(key=lambda r: order(r["share"], r["route"]))
    return rows[:limit]


MATTERS = {"INTERRUPTED": "it was ended before its time", "FAILED": "it failed"}


@answers("unfinished-runs")
def unfinished_runs(
    runs: Mapping[str, Run], experiment: str | None, workload: str | None, quiet: int, limit: int
) -> Rows:
    """Open runs are those of `gradtrace run`; they were written to just now."""
    rows: Rows = []
    for run in reversed(runs.values()):
        matter = MATTERS.get(run.status or "", "it is silent: its process may be gone" if not quiet else "")
        if run.status == "FINISHED" or not matter:
            continue
        if experiment in (None, run.record.experiment) and workload in (None, run.record.workload):
            rows.append(
                {
                    "run": run.record.id,
                    "workload": run.record.workload,
                    "experiment": run.record.experiment,
                    "status": run.status or "RUNNING",
                    "matter": matter,
                    "reason": run.reason,
                    "attempts": 1,
                    "steps": len(run.steps),
                    "last_step": max((s.step for s in run.steps), default=None),
                    "planned": None,
                }
            )
    return rows[:limit]


@answers("experiment-names")
def experiment_names(runs: Mapping[str, Run]) -> Rows:
    counts = Counter(r.record.experiment for r in runs.values())
    newest = dict.fromkeys(r.record.experiment for r in reversed(runs.values()))
    return [{"experiment": name, "runs": counts[name]} for name in newest]


@answers("workload-names")
def workload_names(runs: Mapping[str, Run], experiment: str | None) -> Rows:
    counts = Counter(r.record.workload for r in runs.values() if experiment in (None, r.record.experiment))
    return [{"workload": name, "runs": count} for name, count in sorted(counts.items())]


@answers("hyperparameter-names")
def hyperparameter_names(runs: Mapping[str, Run], experiment: str, workload: str | None) -> Rows:
    values: dict[str, list[Any]] = defaultdict(list)
    for run in chosen(runs, experiment, workload):
        for name, value in run.record.parameters.items():
            if value is not None:
                values[name].append(value)
    rows: Rows = [{"hyperparameter": k, "count": len(set(v)), "runs": len(v)} for k, v in values.items()]
    return sorted(rows, key=lambda r: (-r["count"], r["hyperparameter"]))
