"""The findings' texts say what their committed numbers say, and the command that they name makes these numbers."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from examples.findings import __main__ as command
from examples.findings import results, text
from examples.findings.ask import ask
from examples.findings.numbers import Spread, first, spread
from examples.findings.question import Question
from examples.findings.train import train
from gradtrace.queries import Library
from gradtrace.service.store import connect

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

ROOT = Path(__file__).resolve().parents[2]
T_975 = {4: 2.776445, 5: 2.570582}  # quantiles of Student's t, from a table
MOST = 150_000  # bytes of a drawing


def question(name: str) -> Question:
    found = import_module(f"examples.findings.{name}").QUESTION
    assert isinstance(found, Question)
    return found


each = pytest.mark.parametrize("name", command.NAMES)


@each
def test_the_text_is_that_of_the_committed_numbers(name: str) -> None:
    asked = question(name)
    about, records = results.read(asked.folder)
    written = (asked.folder / "README.md").read_text(encoding="utf-8")
    assert written == text.readme(asked, about, results.runs_of(records))
    for picture in asked.pictures:
        assert f"]({picture})" in written


@each
def test_the_drawings_are_those_of_the_committed_numbers(name: str, tmp_path: Path) -> None:
    asked = question(name)
    _, records = results.read(asked.folder)
    for picture, draw in asked.pictures.items():
        draw(results.runs_of(records), tmp_path / picture)
        kept = (asked.folder / picture).read_bytes()
        assert kept == (tmp_path / picture).read_bytes() and len(kept) < MOST


@each
def test_every_arm_has_every_seed_at_every_step(name: str) -> None:
    plan = question(name).plan
    about, records = results.read(question(name).folder)
    assert len(plan.seeds) >= 5 and about["processes"] == 2
    assert sorted((r["arm"], r["seed"]) for r in records) == sorted((arm.name, seed) for arm, seed in plan.runs())
    steps = list(range(0, plan.steps, plan.every))
    assert steps[-1] == plan.steps - 1, "the last step is traced"
    for record in records:
        [arm] = [a for a in plan.arms if a.name == record["arm"]]
        assert record["steps"] == steps and len(record["loss"]) == len(steps)
        assert set(record["traces"]) == (set() if arm.blocked else set(arm.modes))


@each
def test_costs_in_the_text_are_worked_out_anew_from_the_runs(name: str) -> None:
    """By numpy and a table of quantiles, from the numbers that the runs measured, for every blocked arm."""
    _, records = results.read(question(name).folder)
    written = (question(name).folder / "README.md").read_text(encoding="utf-8")

    def accuracies(arm: str) -> np.ndarray[Any, Any]:
        held = {r["seed"]: r["held_out"]["accuracy"] for r in records if r["arm"] == arm}
        return 100 * np.array([held[seed] for seed in question(name).plan.seeds])

    for arm in question(name).plan.arms:
        if not arm.blocked:
            continue
        whole = arm.name.partition(", ")[0] if ", " in arm.name else "plain"
        lost = accuracies(whole) - accuracies(arm.name)
        half = T_975[len(lost) - 1] * lost.std(ddof=1) / math.sqrt(len(lost))
        [line] = [row for row in written.splitlines() if row.startswith(f"| {arm.name} |")]
        assert line.rstrip(" |").split("| ")[-1] == f"{lost.mean():.0f} ± {half:.0f} points", line


@each
def test_expectations_that_failed_are_told(name: str) -> None:
    asked = question(name)
    _, records = results.read(asked.folder)
    rows = re.findall(r"^\| (.*) \| (.*) \| (holds|fails) \|$", (asked.folder / "README.md").read_text("utf-8"), re.M)
    found = asked.expectations(results.runs_of(records))
    assert [(e.text, e.seen, "holds" if e.holds else "fails") for e in found] == rows and rows


def test_spreads_and_first_steps() -> None:
    assert spread([1.0, 3.0, None, math.nan, 2.0]) == Spread(2.0, pytest.approx(4.302653 / math.sqrt(3), rel=1e-6), 3)
    assert spread([None]).n == 0 and math.isnan(spread([1.0]).half)
    assert first([0, 8, 16, 24], [1.0, 0.0, 1.0, 1.0], lambda v: v > 0.5) == 16
    assert first([0, 8], [None, 0.0], lambda v: v > 0.5) is None


def test_check_sees_what_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = question("lag")
    about, records = results.read(asked.folder)

    def checked(changed: list[dict[str, Any]]) -> tuple[int, str]:
        results.write(tmp_path, about, changed)
        return command.check(asked, tmp_path), capsys.readouterr().out

    assert checked(records) == (0, f"All {len(records)} runs are the same in every digit.\n")
    rounded = copy.deepcopy(records)
    rounded[0]["held_out"]["loss"] *= 1.0001
    status, said = checked(rounded)
    assert status == 0 and f"1 of {len(records)} runs differ" in said and "every verdict is the same" in said
    for record in rounded:
        record["held_out"]["accuracy"] = 0.1
    status, said = checked(rounded)
    assert status == 1 and "in the text" in said and "holds in the text, fails now" in said


@pytest.mark.full
@each
def test_one_run_made_again_gives_the_committed_numbers(
    name: str, clean_store: ServerInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 0 of the first arm, by the very way of the command. To the last digit where the processor rounds alike."""
    for key, value in connection(clean_store).items():
        monkeypatch.setenv(key, value)
    whole = question(name).plan
    plan = replace(whole, arms=(replace(whole.arms[0], more=()),), seeds=(0,))
    with connect(clean_store.uri, clean_store.user, clean_store.password, "neo4j") as store:
        arms, busy = train(plan, "again", processes=1)
        [made] = ask(Library(store.driver), plan, "again", arms)
    assert busy > 0
    [kept] = [r for r in results.read(question(name).folder)[1] if (r["arm"], r["seed"]) == (plan.arms[0].name, 0)]
    if made == kept:
        return
    assert made["steps"] == kept["steps"]
    assert made["held_out"]["accuracy"] == pytest.approx(kept["held_out"]["accuracy"], abs=0.15)
    for mode, components in kept["traces"].items():  # before training has spread the difference
        for component, series in components.items():
            assert made["traces"][mode][component]["share"][0] == pytest.approx(series["share"][0], rel=1e-2, abs=1e-4)


@pytest.mark.full
def test_the_command_from_end_to_end_at_reduced_size(clean_store: ServerInfo, tmp_path: Path) -> None:
    asked = question("attention")
    line = [sys.executable, "-m", "examples.findings", "attention", "--reduced", "--to", str(tmp_path)]
    environment = {**os.environ, **connection(clean_store)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {p.name for p in tmp_path.iterdir()} == {"README.md", "results.json", *asked.pictures}
    about, records = results.read(tmp_path)
    assert len(records) == 2 * len(asked.plan.arms) and about["minutes"] >= 0
    assert f"{2 * len(asked.plan.arms):4d}/{2 * len(asked.plan.arms)}" in done.stderr


def test_reduced_results_do_not_take_the_place_of_true_ones() -> None:
    line = [sys.executable, "-m", "examples.findings", "stack", "--reduced"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--to" in done.stderr


def test_cypher_of_the_page_is_that_of_the_command() -> None:
    from examples.findings.ask import HELD_OUT

    page = (ROOT / "examples" / "findings" / "README.md").read_text(encoding="utf-8")
    asked = re.sub(r"\$experiment", '"EXPERIMENT"', HELD_OUT.strip())
    assert asked in page


def connection(server: ServerInfo) -> dict[str, str]:
    return {
        "GRADTRACE_NEO4J_URI": server.uri,
        "GRADTRACE_NEO4J_USER": server.user,
        "GRADTRACE_NEO4J_PASSWORD": server.password,
    }


def test_results_are_plain_numbers() -> None:
    for name in command.NAMES:
        held = (question(name).folder / results.FILE).read_text(encoding="utf-8")
        assert json.loads(held)["runs"] and "NaN" not in held and len(held) < 400_000
