"""Ask the library what a report needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gradtrace.queries.model import did_you_mean
from gradtrace.service.report.compare import compare
from gradtrace.service.report.graph import component_graph, shortened
from gradtrace.service.report.model import ComponentGraph, Report, Routes, Row, RunReport, Series
from gradtrace.service.report.secrets import without_secrets
from gradtrace.service.report.ways import ways_of
from gradtrace.service.report.words import run_headline, run_notes
from gradtrace.tracer.errors import ReportError

if TYPE_CHECKING:
    from gradtrace.queries.runner import Library

POINTS, POINTS_OF_MANY, MANY = 60, 20, 8
"""Steps drawn of each run: `POINTS`, or `POINTS_OF_MANY` in a report of more than `MANY` runs."""
ROUTES = 5
"""Routes drawn of each step."""
WHOLE = "<model>"
"""The component that is the model itself: all that is traced crosses it."""
_ATTEMPTS = 3  # a run that is still being written may get a step between two questions


def gather(
    library: Library,
    runs: Sequence[str] = (),
    *,
    experiment: str | None = None,
    mode: str | None = None,
    batch: str | None = None,
    title: str | None = None,
) -> Report:
    """Everything that a report says.

    Args:
        library: the question library over the store.
        runs: ids of runs; without any, those of `experiment`, or else the newest run with traced steps.
        experiment: name of an experiment; its runs with traced steps are reported on.
        mode, batch: how and on what traces were made; by default greedy and training where the first run has them.
        title: heading; made from the runs if None.

    Raises:
        ReportError: a run is unknown or has no traced step in this mode on this batch, or there is none at all.
    """
    # Ids stay as they are: they are asked with. What is shown of them comes from the rows.
    known = {row["run"]: _clean(row) for row in library.stream("runs", limit=10_000)}
    chosen = _chosen(known, runs, experiment)
    asked = _asked(library, chosen, mode, batch)
    points = POINTS if len(chosen) <= MANY else POINTS_OF_MANY
    made = tuple(_run(library, run, known[run], asked, points) for run in chosen)
    workloads = sorted({run.workload for run in made})
    return Report(
        title=title or (made[0].run if len(made) == 1 else f"{len(made)} runs of {', '.join(workloads)}"),
        mode=asked["mode"],
        batch=asked["batch"],
        points=points,
        made=datetime.now(UTC),
        runs=made,
        comparison=compare(made) if len(made) > 1 else None,
    )


def _rows(library: Library, question: str, **params: object) -> list[dict[str, Any]]:
    """All rows of an answer, however many, with secrets blotted out."""
    return [_clean(row) for row in library.stream(question, **params)]


def _clean(row: Row) -> dict[str, Any]:
    return {name: without_secrets(value) for name, value in row.items()}


def _chosen(known: Mapping[str, Row], runs: Sequence[str], experiment: str | None) -> list[str]:
    """Ids of the runs to report on, each once."""
    hint = "`gradtrace runs` lists those there are, `gradtrace run` makes one."
    for run in runs:
        if run not in known:
            raise ReportError(f"The store holds no run {run!r}{did_you_mean(run, known)} {hint}")
        if not known[run]["steps"]:
            row = known[run]
            raise ReportError(
                f"Run {run} has no traced steps to report on; it is {row['status']}"
                f"{': ' + row['reason'] if row['reason'] else ''}."
            )
    if runs:
        return list(dict.fromkeys(runs))
    traced = [run for run, row in known.items() if row["steps"] and experiment in (None, row["experiment"])]
    if not traced:
        where = "The store" if experiment is None else f"Experiment {experiment!r}"
        raise ReportError(f"{where} holds no run with traced steps. {hint}")
    return traced[:1] if experiment is None else traced[::-1]


def _asked(library: Library, runs: Sequence[str], mode: str | None, batch: str | None) -> dict[str, str]:
    """Mode and batch, which every run must have."""
    for run in runs:
        had = [(row["mode"], row["batch"]) for row in _rows(library, "traced-modes", run=run)]
        fits = [h for h in had if mode in (None, h[0]) and batch in (None, h[1])]
        if not fits:
            listed = ", ".join(f"{m} on the {b} batch" for m, b in had)
            wanted = f"{mode or 'any mode'} on {'the ' + batch if batch else 'any'} batch"
            raise ReportError(f"Run {run} was not traced in {wanted}; it has {listed}. See --mode and --batch.")
        mode, batch = fits[0]
    return {"mode": str(mode), "batch": str(batch)}


def _run(library: Library, name: str, facts: Row, asked: Mapping[str, str], points: int) -> RunReport:
    run = {"run": name, **asked}
    for _ in range(_ATTEMPTS):
        over_time = _rows(library, "components-over-time", **run, points=points)
        ways = _rows(library, "component-graph", **run, points=points)
        routes = _rows(library, "routes-over-time", **run, points=points, limit=ROUTES)
        if len({frozenset(r["step"] for r in rows) for rows in (over_time, ways, routes) if rows}) < 2:
            break
    at = {row["step"]: row for row in over_time}
    steps = tuple(at)
    by_epoch = _rows(library, "components-by-epoch", **run, limit=10_000)
    forks = _rows(library, "win-rates", **run, limit=100_000)
    order: dict[str | None, int] = {}
    for row in _rows(library, "vertices-at-step", **run, step=steps[-1]):
        if row["kind"] in ("operator", "loss"):
            order.setdefault(row["component"], row["vertex"])
    graph = component_graph(steps, ways, order)
    drawn = _routes(steps, routes, graph)
    stability = {row["parameter"]: row for row in _rows(library, "path-stability", **run, limit=100_000)}
    parameters = [
        {**row, **{c: stability.get(row["parameter"], {}).get(c) for c in ("paths", "main_share")}}
        for row in _rows(library, "parameters-at-step", **run, step=steps[-1], limit=100_000)
    ]
    non_finite = tuple(r["step"] for r in _rows(library, "non-finite-steps", run=name, limit=100_000))
    traced = next(r["steps"] for r in _rows(library, "traced-modes", run=name) if _same(r, asked))
    return RunReport(
        run=facts["run"],
        workload=facts["workload"],
        experiment=facts["experiment"],
        status=facts["status"],
        reason=facts["reason"],
        started=facts["started"],
        hyperparameters=dict(p.partition("=")[::2] for p in facts["parameters"]),
        traced=traced,
        steps=steps,
        epochs=tuple(row["epoch"] for row in at.values()),
        losses=tuple(row["loss"] for row in at.values()),
        components=_series(steps, over_time, by_epoch),
        by_epoch=tuple(by_epoch),
        forks=tuple(forks),
        graph=graph,
        routes=drawn,
        parameters=tuple(parameters),
        non_finite=non_finite,
        headline=run_headline(by_epoch, forks, routes),
        notes=run_notes(facts, traced, len(steps), non_finite, parameters, graph.folded),
    )


def _same(row: Row, asked: Mapping[str, str]) -> bool:
    return (row["mode"], row["batch"]) == (asked["mode"], asked["batch"])


def _series(steps: Sequence[int], rows: Iterable[Row], by_epoch: Sequence[Row]) -> tuple[Series, ...]:
    found: dict[str, dict[int, Row]] = {}
    for row in rows:
        found.setdefault(row["component"], {})[row["step"]] = row
    last = max((row["epoch"] for row in by_epoch), default=None)
    end = {
        r["component"]: (-round(r["foreign_share"], 9), -round(r["share"], 9)) for r in by_epoch if r["epoch"] == last
    }

    def column(component: str, name: str) -> tuple[float | None, ...]:
        return tuple(found[component][s][name] if s in found[component] else None for s in steps)

    return tuple(
        Series(c, column(c, "share"), column(c, "foreign_share"), column(c, "win_rate"))
        for c in sorted(found, key=lambda c: (end.get(c, (1.0, 1.0)), c))
        if c != WHOLE
    )


def _routes(steps: Sequence[int], rows: Iterable[Row], graph: ComponentGraph) -> Routes:
    place = {name: i for i, name in enumerate(graph.nodes)}
    numbers: dict[str, int] = {}
    ways: list[tuple[tuple[int, int], ...]] = []
    at: dict[int, list[tuple[int, float]]] = {s: [] for s in steps}
    for row in rows:
        if row["route"] not in numbers:
            numbers[row["route"]] = len(ways)
            pairs = [tuple(place.get(shortened(n, graph.folded), -1) for n in pair) for pair in ways_of(row["tokens"])]
            ways.append(tuple(dict.fromkeys((a, b) for a, b in pairs if a != b and -1 not in (a, b))))
        if row["step"] in at:
            at[row["step"]].append((numbers[row["route"]], row["share"]))
    return Routes(tuple(numbers), tuple(ways), tuple(tuple(at[s]) for s in steps))
