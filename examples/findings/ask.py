"""What the graph database says of the runs of a plan: everything in the results comes from these questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradtrace.queries import Library

from .plan import BATCH, Plan

HELD_OUT = """
MATCH (r:Run)-[:IN]->(:Experiment {name: $experiment})
RETURN r.id AS run, r.param_seed AS seed, r.held_out_loss AS loss, r.held_out_accuracy AS accuracy
"""
POINTS = 10_000
"""More than any run has traced steps."""
DIGITS = 5


def ask(library: Library, plan: Plan, experiment: str, arms: Mapping[str, str]) -> list[dict[str, Any]]:
    """One record a run, arm by arm and seed by seed.

    Args:
        library: the question library over the store.
        plan: what was trained.
        experiment: the runs' experiment.
        arms: run id → name of its arm.

    Returns:
        `arm`, `seed`, `held_out` (loss and accuracy after training), `steps` and `loss` of the probe batch at every traced
        step, and, unless something was blocked, in `traces`, by mode and component, `share`, `foreign` (share from
        parameters outside) and `win` (win rate, or None) at each of these steps. Numbers are rounded to five digits.
    """
    plan_arms = {arm.name: arm for arm in plan.arms}
    order = {arm.name: number for number, arm in enumerate(plan.arms)}
    found = library.cypher(HELD_OUT, {"experiment": experiment}).rows
    records = []
    for row in sorted(found, key=lambda row: (order[arms[row["run"]]], row["seed"])):
        arm = arms[row["run"]]
        record: dict[str, Any] = {
            "arm": arm,
            "seed": row["seed"],
            "held_out": {"loss": rounded(row["loss"]), "accuracy": rounded(row["accuracy"])},
        }
        traces = {}
        for mode in plan_arms[arm].modes:
            rows = list(library.stream("components-over-time", run=row["run"], mode=mode, batch=BATCH, points=POINTS))
            losses = {r["step"]: r["loss"] for r in rows}
            record["steps"] = sorted(losses)
            record["loss"] = [rounded(losses[step]) for step in record["steps"]]
            if not plan_arms[arm].blocked:
                traces[mode] = {name: _series(rows, name, record["steps"]) for name in plan.components}
        records.append({**record, "traces": traces})
    return records


def _series(rows: list[dict[str, Any]], component: str, steps: list[int]) -> dict[str, list[float | None]]:
    here = {row["step"]: row for row in rows if row["component"] == component}
    columns = {"share": "share", "foreign": "foreign_share", "win": "win_rate"}
    # A component that no trace crosses, and that lies at no fork, has no row: its share is 0.
    return {
        name: [rounded(here[step][column]) if step in here else (None if name == "win" else 0.0) for step in steps]
        for name, column in columns.items()
    }


def rounded(value: float | None) -> float | None:
    """A number with `DIGITS` digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
