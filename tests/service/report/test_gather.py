"""What a report says against the StepTraces that were stored, worked out in plain Python."""

from __future__ import annotations

import math
import statistics

import pytest

from gradtrace.queries import Library
from gradtrace.service.report import Report, gather
from gradtrace.tracer.errors import ReportError
from gradtrace.tracer.steptrace import BatchTrace, StepTrace
from tests.service.report.conftest import HOSTILE, SECRET, runs


def _first(step: StepTrace) -> BatchTrace:
    return step.traces[0]


def _share(steps: list[StepTrace], component: str) -> float:
    """Mass of a component over all mass, summed over steps."""
    mass = math.fsum(c.mass for s in steps for c in _first(s).components if c.component == component)
    return mass / math.fsum(p.mass for s in steps for p in _first(s).parameters)


def _last_epoch(run: str) -> list[StepTrace]:
    steps = runs()[run].steps
    return [s for s in steps if s.epoch == steps[-1].epoch]


def test_the_drawn_steps_are_spread_evenly(reports: dict[str, Report]) -> None:
    run = reports["long"].runs[0]
    assert run.traced == 70 and len(run.steps) == 60
    assert (run.steps[0], run.steps[-1]) == (0, 690)
    gaps = {b - a for a, b in zip(run.steps, run.steps[1:], strict=False)}
    assert gaps == {10, 20}
    assert "60 of 70 traced steps are drawn" in run.notes[0]
    assert reports["one-step"].runs[0].steps == (0,)


def test_shares_and_win_rates_over_steps(reports: dict[str, Report]) -> None:
    run = reports["long"].runs[0]
    by_step = {s.step: _first(s) for s in runs()["long"].steps}
    for at, step in enumerate(run.steps):
        for c in by_step[step].components:
            if c.component == "<model>":
                continue
            [series] = [x for x in run.components if x.component == c.component]
            assert series.share[at] == pytest.approx(c.share)
            assert series.win_rate[at] == pytest.approx(c.won / c.contested if c.contested else None)


def test_ways_between_components(reports: dict[str, Report]) -> None:
    run = reports["long"].runs[0]
    by_step = {s.step: _first(s) for s in runs()["long"].steps}
    for at, step in enumerate(run.steps):
        trace = by_step[step]
        total = math.fsum(p.mass for p in trace.parameters)
        wanted: dict[tuple[str, str], float] = {}
        for e in trace.graph.edges:
            a, b = trace.graph.vertices[e.source], trace.graph.vertices[e.target]
            if a.kind != "constant" and a.component != b.component:
                pair = a.component or "loss", b.component or "loss"
                wanted[pair] = wanted.get(pair, 0.0) + float(trace.mass[e.idx]) / total
        found = {
            (run.graph.nodes[a], run.graph.nodes[b]): share
            for (a, b), share in zip(run.graph.ways, run.graph.shares[at], strict=True)
        }
        assert found == pytest.approx(wanted)


def test_routes_of_a_step(reports: dict[str, Report]) -> None:
    run = reports["long"].runs[0]
    by_step = {s.step: _first(s) for s in runs()["long"].steps}
    for at, step in enumerate(run.steps):
        rows = sorted((r for r in by_step[step].routes if r.parameter == "*"), key=lambda r: r.rank)[:5]
        assert [run.routes.texts[n] for n, _ in run.routes.at[at]] == [r.text for r in rows]
        assert [share for _, share in run.routes.at[at]] == pytest.approx([r.share for r in rows])


def test_the_headline_holds_what_the_run_did(reports: dict[str, Report]) -> None:
    steps = runs()["long"].steps
    last = _last_epoch("long")
    first = [s for s in steps if s.epoch == 0]
    said = reports["long"].runs[0].headline
    shares = {c.component: _share(last, c.component) for c in _first(last[0]).components}
    [named] = [c for c in shares if f"came through {c}," in said[0]]
    assert f"{100 * shares[named]:.1f} % of the gradient mass" in said[0]
    before = _share(first, named)
    if abs(shares[named] - before) >= 0.005:
        assert f"{'up' if shares[named] > before else 'down'} from {100 * before:.1f} %" in said[0]
    won = {
        name: sum(c.won for s in last for c in _first(s).components if c.component == name)
        / max(1, sum(c.contested for s in last for c in _first(s).components if c.component == name))
        for name in shares
    }
    winner = said[1].partition(" won ")[0]
    assert f"{winner} won {100 * won[winner]:.1f} % of its forks" in said[1]


def test_means_and_deviations_over_seeds(reports: dict[str, Report]) -> None:
    report = reports["grid"]
    comparison = report.comparison
    assert comparison is not None
    assert [r.run for r in report.runs] == [f"lr{lr}-seed{seed}" for lr in (0.1, 0.01) for seed in (0, 1, 2)]
    assert comparison.settings == ("lr=0.1", "lr=0.01") and comparison.setting_of == (0, 0, 0, 1, 1, 1)
    assert comparison.differing == ("lr", "seed")
    for setting, lr in enumerate((0.1, 0.01)):
        for component in comparison.components:
            values = [_share(_last_epoch(f"lr{lr}-seed{seed}"), component) for seed in (0, 1, 2)]
            found = comparison.spreads["share", component, setting]
            assert [v for _, v in found.values] == pytest.approx(values)
            assert found.mean == pytest.approx(statistics.mean(values))
            assert found.deviation == pytest.approx(statistics.stdev(values))
    top = comparison.components[0]
    for setting in (0, 1):
        one = comparison.spreads["share", top, setting]
        assert f"{100 * one.mean:.1f} % ± {100 * (one.deviation or 0):.1f} %" in comparison.headline[0]


def test_runs_of_one_setting_are_told_with_their_spread(library: Library) -> None:
    report = gather(library, ["lr0.1-seed0", "lr0.1-seed1", "lr0.1-seed0"])
    assert len(report.runs) == 2 and report.comparison is not None
    assert report.comparison.settings == ("all runs",)
    assert report.comparison.headline[0].endswith("over 2 runs.")


def test_parameters(reports: dict[str, Report]) -> None:
    run = reports["long"].runs[0]
    trace = _first(runs()["long"].steps[-1])
    found = {row["parameter"]: row for row in run.parameters}
    assert set(found) == {p.parameter for p in trace.parameters}
    for p in trace.parameters:
        row = found[p.parameter]
        assert (row["live"], row["dead"], row["unread"]) == (p.traffic, p.dead, p.unread)
        assert row["margin"] == (p.strongest.margin if p.strongest else None)
    assert any(row["paths"] and row["paths"] > 1 for row in run.parameters)


def test_secrets_are_blotted_out(reports: dict[str, Report]) -> None:
    run = reports["hostile"].runs[0]
    assert run.run == HOSTILE
    assert run.hyperparameters["data"] == "s3://**********@bucket/x"
    assert run.reason is not None and f":{SECRET}@" not in run.reason


def test_the_newest_traced_run_is_the_default(library: Library) -> None:
    report = gather(library)
    assert report.runs[0].run == "probed"
    assert (report.mode, report.batch) == ("maxprod", "probe")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"runs": ["lnog"]}, r"The store holds no run 'lnog'; did you mean long\? `gradtrace runs` lists"),
        ({"runs": ["no-steps"]}, "Run no-steps has no traced steps to report on; it is FAILED: out of memory"),
        ({"experiment": "none"}, "Experiment 'none' holds no run with traced steps"),
        ({"runs": ["long"], "mode": "maxprod"}, "Run long was not traced .*it has greedy on the training batch"),
        ({"runs": ["long", "probed"]}, "Run probed was not traced .*it has maxprod on the probe batch"),
    ],
)
def test_what_cannot_be_reported_on(library: Library, asked: dict[str, object], said: str) -> None:
    with pytest.raises(ReportError, match=said):
        gather(library, **asked)  # type: ignore[arg-type]  # the cases differ in what they give
