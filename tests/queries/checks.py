"""Comparing answers with those in plain Python, and ways to ask every question about a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from gradtrace.queries import registry
from gradtrace.tracer.steptrace import StepTrace
from tests.queries.worlds import CROWD, Run
from tests.synthetic import step_trace

COMPUTED = ("store-size", "runs", "run-ids")  # compared in tests of their own


def same(found: Any, expected: Any) -> bool:
    """Equal, floats up to rounding; NaN equals NaN."""
    if isinstance(expected, float) and isinstance(found, float):
        return (math.isnan(found) and math.isnan(expected)) or math.isclose(
            found, expected, rel_tol=1e-9, abs_tol=1e-12
        )
    return type(found) is type(expected) and bool(found == expected)


def assert_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]], columns: list[str]) -> None:
    assert len(found) == len(expected)
    for number, (row, wanted) in enumerate(zip(found, expected, strict=True)):
        assert set(wanted) <= set(columns), "the reference answers another question"
        for name, value in wanted.items():
            assert same(row[name], value), f"row {number}, {name}: {row[name]!r} is not {value!r}"


def assert_typed(name: str, rows: list[dict[str, Any]]) -> None:
    columns = registry()[name].columns
    for row in rows:
        assert list(row) == list(columns)
        for column, value in row.items():
            assert columns[column].accepts(value), f"{name}.{column} is {value!r}, not {columns[column]}"


def some(step: StepTrace, what: str) -> Any:
    first = step.traces[0]
    return {
        "component": [c.component for c in first.components][1::3],
        "parameter": [p.parameter for p in first.parameters][::2],
    }[what]


def askings(runs: Mapping[str, Run]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(run, question, parameters) for every run, mode, batch, and a choice of the rest.

    What is asked about an experiment is asked with the first of its runs, and runs of a crowd are asked only together.
    """
    met: set[str] = set()
    for run in runs.values():
        heads = sorted({(t.mode, t.batch) for s in run.steps for t in s.traces}) or [("greedy", "training")]
        first = run.record.experiment not in met
        met.add(run.record.experiment)
        for name, question in registry().items():
            if name in COMPUTED or ("run" not in question.parameters and not first):
                continue
            if run.record.experiment == CROWD and question.group not in ("many runs", "lookup"):
                continue
            choices: list[dict[str, Any]] = [{}]
            for parameter in question.parameters.values():
                choices = [c | more for c in choices for more in _choices(run, heads, parameter.name, question.name)]
            for choice in {repr(c): c for c in choices}.values():
                head = choice.pop("head", None)
                if head is not None:
                    choice |= {k: v for k, v in zip(("mode", "batch"), head, strict=True) if k in question.parameters}
                yield run.record.id, name, choice


_BEGUN = ("dominant-examples", "dominant-times")


def _choices(run: Run, heads: list[tuple[str, str]], parameter: str, question: str) -> list[dict[str, Any]]:
    first = run.steps[0] if run.steps else step_trace("x", 0)
    epochs = sorted({s.epoch for s in run.steps})
    match parameter:
        case "run":
            return [{"run": run.record.id}]
        case "mode" if question == "traced-modes":
            return [{"mode": None}, {"mode": "greedy"}]
        case "mode":
            return [{"head": head} for head in heads]
        case "epoch":
            return [{"epoch": None}, *({"epoch": e} for e in epochs[-1:])]
        case "step" if question in _BEGUN:
            return [{}]  # chosen with the component
        case "step" if question in ("top-routes", "dominant-places"):
            return [{"step": None}, {"step": first.step}]
        case "step":
            return [{"step": s.step} for s in run.steps[:: max(1, len(run.steps) // 3)][-4:]] or [{"step": 0}]
        case "component" if question in _BEGUN:
            return [{"component": None}, {"component": some(first, "component")[0], "step": first.step}]
        case "component" if question == "win-rates":
            return [{"component": None}, {"component": some(first, "component")[0]}]
        case "component":
            return [{"component": c} for c in some(first, "component")[:3]]
        case "parameter" if question in ("top-routes", "routes-over-time", "routes-of-converged-runs"):
            return [{"parameter": "*"}, {"parameter": some(first, "parameter")[0]}]
        case "parameter" if question == "dead-over-time":
            return [{"parameter": None}, {"parameter": some(first, "parameter")[0]}]
        case "parameter":
            return [{"parameter": p} for p in some(first, "parameter")]
        case "experiment" if question == "alike-runs":
            return [{"experiment": None}, {"experiment": CROWD}]
        case "experiment":
            return [{"experiment": run.record.experiment}]
        case "workload":
            return [{"workload": None}, {"workload": run.record.workload}]
        case "scalar":
            return [{"scalar": None}, {"scalar": 2}, {"scalar": 1_000_000}]
        case "hyperparameter":
            return [{"hyperparameter": name} for name in ("lr", "schedule")]
        case "order_by" | "measure":
            return [{parameter: o} for o in registry()[question].parameters[parameter].choices]
        case "changes_only":
            return [{"changes_only": False}, {"changes_only": True}]
        case "points" if question in (*_BEGUN, "dominant-places"):
            return [{"points": 2}, {"points": 1000}]
        case "points":
            return [{"points": 2}, {"points": 3}, {"points": 1000}]
    return _numbers(parameter, question)


def _numbers(parameter: str, question: str) -> list[dict[str, Any]]:
    """Values of thresholds and limits, which do not depend on the run."""
    match parameter:
        case "least" if question == "seed-agreement":
            return [{"least": 1}, {"least": 2}]
        case "least":  # all converged runs and none of the others, or some of each
            return [{"least": 1.0, "most": 0.0}, {"least": 0.3, "most": 0.7}]
        case "runs":
            return [{"runs": 2}, {"runs": 1000}]
        case "loss":
            return [{"loss": None}, {"loss": 1.0}]
        case "factor":
            return [{"factor": 1.2, "least_share": 0.0}, {"factor": 2.0, "least_share": 0.05}]
        case "quiet":
            return [{"quiet": 0}, {"quiet": 1_000_000}]
        case "limit":
            return [{"limit": 3}, {"limit": 10_000}]
        case "most" if question != "routes-of-converged-runs":
            return [{"most": 3}, {"most": 10_000}]
    return [{}]
