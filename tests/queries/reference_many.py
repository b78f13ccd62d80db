"""Answers in plain Python to the questions about many runs: final shares and losses, seeds, likeness, correlation."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from scipy.stats import t as student

from gradtrace.tracer.steptrace import BatchTrace, route_text
from tests.queries.reference import Rows, answers, finite, total_mass, traced
from tests.queries.worlds import Run

Epochs = dict[int, list[BatchTrace]]


def chosen(runs: Mapping[str, Run], experiment: str, workload: str | None) -> list[Run]:
    """Runs of an experiment, and of a workload if one is named."""
    return [r for r in runs.values() if r.record.experiment == experiment and workload in (None, r.record.workload)]


def by_epoch(run: Run, mode: str, batch: str) -> Epochs:
    found: Epochs = defaultdict(list)
    for step, trace in traced(run, mode, batch):
        found[step.epoch].append(trace)
    return dict(sorted(found.items()))


def last(run: Run, mode: str, batch: str) -> list[BatchTrace]:
    """Traces of the last traced epoch."""
    return [[], *by_epoch(run, mode, batch).values()][-1]


def mean_loss(traces: list[BatchTrace]) -> float | None:
    losses = finite(t.loss for t in traces)
    return statistics.fmean(losses) if losses else None


def measures(traces: list[BatchTrace]) -> dict[str, dict[str, Any]]:
    """Per component but the model itself, what the traces that know it say."""
    sums: dict[str, dict[str, Any]] = {}
    for t in traces:
        paths = [c.path for c in t.graph.components]
        for c in t.components:
            if c.component == "<model>":
                continue
            row = sums.setdefault(c.component, defaultdict(float))
            for name in ("mass", "foreign", "contested", "won"):
                row[name] += getattr(c, name)
            row["total"] += total_mass(t)
            row["flow"] += sum(finite([c.flow]))
            row["steps"] += 1
            row["innermost"] = not any(p.startswith(c.component + ".") for p in paths)
            row["role"] = t.graph.component_by_path[c.component].role
    for row in sums.values():
        row["share"] = row["mass"] / row["total"] if row["total"] else 0.0
        row["foreign_share"] = row["foreign"] / row["total"] if row["total"] else 0.0
        row["win_rate"] = row["won"] / row["contested"] if row["contested"] else None
        row["flow"] /= row["steps"]
    return sums


def deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def half_width(values: list[float]) -> float | None:
    """Of the 95% interval of the mean; the quantile as tables have it."""
    if len(values) < 2:
        return None
    return round(float(student.ppf(0.975, len(values) - 1)), 3) * deviation(values) / math.sqrt(len(values))


def order(value: float, name: str) -> tuple[float, str]:
    """Large ones first, equal ones by name."""
    return (-round(value, 12), name)


@answers("compare-hyperparameter")
def compare_hyperparameter(
    runs: Mapping[str, Run],
    hyperparameter: str,
    experiment: str,
    workload: str | None,
    mode: str,
    batch: str,
    limit: int,
) -> Rows:
    shares: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    losses: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in chosen(runs, experiment, workload):
        value = run.record.parameters.get(hyperparameter)
        if value is None:
            continue
        traces = last(run, mode, batch)
        for name, row in measures(traces).items():
            shares[name][str(value)].append(row["share"])
            losses[name, str(value)] += [loss for loss in [mean_loss(traces)] if loss is not None]
    effects = {
        name: max(map(statistics.fmean, held.values())) - min(map(statistics.fmean, held.values()))
        for name, held in shares.items()
    }
    rows: Rows = []
    for name in sorted(effects, key=lambda n: order(effects[n], n))[:limit]:
        for value in sorted(shares[name], key=_as_number):
            held, lost = shares[name][value], losses[name, value]
            rows.append(
                {
                    "component": name,
                    "value": value,
                    "runs": len(held),
                    "share": statistics.fmean(held),
                    "deviation": deviation(held),
                    "interval": half_width(held),
                    "effect": effects[name],
                    "loss": statistics.fmean(lost) if lost else None,
                    "loss_deviation": deviation(lost) if lost else None,
                }
            )
    return rows


def _as_number(text: str) -> tuple[bool, float, str]:
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)


@answers("seed-agreement")
def seed_agreement(
    runs: Mapping[str, Run],
    experiment: str,
    workload: str | None,
    seed: str,
    least: int,
    mode: str,
    batch: str,
    limit: int,
) -> Rows:
    groups: dict[tuple[str, tuple[str, ...]], list[dict[str, float]]] = defaultdict(list)
    for run in chosen(runs, experiment, workload):
        kept = {k: v for k, v in run.record.parameters.items() if v is not None and k != seed}
        settings = tuple(sorted(f"{k}={v}" for k, v in kept.items()))
        shares = {name: row["share"] for name, row in measures(last(run, mode, batch)).items()}
        groups[run.record.workload, settings].append(shares)
    rows: Rows = []
    for (work, settings), held in sorted(groups.items()):
        ranked = [sorted(shares, key=lambda n, s=shares: order(s[n], n)) for shares in held]  # type: ignore[misc]
        values: dict[str, list[float]] = defaultdict(list)
        places: dict[str, list[int]] = defaultdict(list)
        for shares, line in zip(held, ranked, strict=True):
            for place, name in enumerate(line, 1):
                values[name].append(shares[name])
                places[name].append(place)
        names = [n for n in values if len(values[n]) >= least]
        names.sort(key=lambda n: order(statistics.fmean(values[n]), n))
        for rank, name in enumerate(names[:limit], 1):
            count = len(values[name])
            rows.append(
                {
                    "workload": work,
                    "settings": list(settings),
                    "rank": rank,
                    "component": name,
                    "runs": count,
                    "share": statistics.fmean(values[name]),
                    "deviation": deviation(values[name]),
                    "error": deviation(values[name]) / math.sqrt(count) if count > 1 else None,
                    "interval": half_width(values[name]),
                    "best_rank": min(places[name]),
                    "worst_rank": max(places[name]),
                    "same_rank": places[name].count(rank) / count,
                }
            )
    return rows


@answers("alike-runs")
def alike_runs(runs: Mapping[str, Run], run: str, mode: str, batch: str, experiment: str | None, limit: int) -> Rows:
    if run not in runs:
        return []
    base = runs[run]
    ours = {n: row["share"] for n, row in measures(last(base, mode, batch)).items()}
    rows: Rows = []
    for other in chosen(runs, experiment or base.record.experiment, None) if ours else []:
        traces = last(other, mode, batch)
        if other is base or not traces:
            continue
        theirs = {n: row["share"] for n, row in measures(traces).items()}
        apart = {n: abs(ours.get(n, 0.0) - theirs.get(n, 0.0)) for n in ours.keys() | theirs.keys()}
        most = min(apart, key=lambda n: order(apart[n], n))
        mine = base.record.parameters
        rows.append(
            {
                "run": other.record.id,
                "workload": other.record.workload,
                "status": other.status or "RUNNING",
                "distance": statistics.fmean(apart.values()),
                "component": most,
                "difference": apart[most],
                "components": len(apart),
                "loss": mean_loss(traces),
                "differs": sorted(
                    f"{k}={v}" for k, v in other.record.parameters.items() if v is not None and mine.get(k) != v
                ),
            }
        )
    rows.sort(key=lambda r: (round(r["distance"], 12), r["run"]))
    return rows[:limit]


@answers("share-against-loss")
def share_against_loss(
    runs: Mapping[str, Run], experiment: str, workload: str | None, mode: str, batch: str, limit: int
) -> Rows:
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for run in chosen(runs, experiment, workload):
        traces = last(run, mode, batch)
        loss = mean_loss(traces)
        if loss is not None:
            for name, row in measures(traces).items():
                pairs[name].append((row["share"], loss))
    rows: Rows = []
    for name, held in pairs.items():
        shares, losses = [s for s, _ in held], [x for _, x in held]
        count, found, low, high = len(held), None, None, None
        if count > 2 and deviation(shares) > 1e-9 and deviation(losses) > 1e-12 * abs(statistics.fmean(losses)):
            found = statistics.correlation(shares, losses)
            if count > 3 and abs(found) < 1 - 1e-9:
                width = round(statistics.NormalDist().inv_cdf(0.975), 6) / math.sqrt(count - 3)
                low, high = math.tanh(math.atanh(found) - width), math.tanh(math.atanh(found) + width)
        rows.append(
            {
                "component": name,
                "runs": count,
                "correlation": found,
                "low": low,
                "high": high,
                "share": statistics.fmean(shares),
                "deviation": deviation(shares),
                "loss": statistics.fmean(losses),
            }
        )
    rows.sort(key=lambda r: (-round(-1.0 if r["correlation"] is None else abs(r["correlation"]), 9), r["component"]))
    return rows[:limit]


@answers("win-rates-across-runs")
def win_rates_across_runs(
    runs: Mapping[str, Run], experiment: str, workload: str | None, mode: str, batch: str, limit: int
) -> Rows:
    rates: dict[str, list[float]] = defaultdict(list)
    contested: dict[str, int] = defaultdict(int)
    roles: dict[str, str | None] = {}
    for run in chosen(runs, experiment, workload):
        for name, row in measures(last(run, mode, batch)).items():
            if row["win_rate"] is not None:
                rates[name].append(row["win_rate"])
                contested[name] += int(row["contested"])
                roles[name] = row["role"]
    rows: Rows = [
        {
            "component": name,
            "role": roles[name],
            "runs": len(held),
            "win_rate": statistics.fmean(held),
            "deviation": deviation(held),
            "interval": half_width(held),
            "least": min(held),
            "greatest": max(held),
            "contested": contested[name],
        }
        for name, held in rates.items()
    ]
    rows.sort(key=lambda r: order(r["win_rate"], r["component"]))
    return rows[:limit]


def series(
    runs: Mapping[str, Run], experiment: str, workload: str | None, mode: str, batch: str
) -> Iterator[tuple[Run, dict[int, dict[str, dict[str, Any]]]]]:
    """Per run the measures of each epoch."""
    for run in chosen(runs, experiment, workload):
        yield run, {epoch: measures(traces) for epoch, traces in by_epoch(run, mode, batch).items()}


def routes_at_end(run: Run, mode: str, batch: str, parameter: str) -> dict[str, float]:
    """Route → its part of the mass in the last traced epoch; the routes beyond the kept ones count for the whole only."""
    masses: dict[str | None, float] = defaultdict(float)
    for t in last(run, mode, batch):
        for r in t.routes:
            if r.parameter == parameter:
                masses[None if r.route is None else route_text(r.route)] += r.mass
    total = math.fsum(masses.values())
    return {route: mass / total if total else 0.0 for route, mass in masses.items() if route is not None}
