"""Ablation: what is blocked learns nothing through it, and the table tells so beside share and win rate."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from statistics import fmean, stdev

import pytest
import torch

from gradtrace.service.ablation import Ablation, copies_of
from gradtrace.service.cli.ablate import command
from gradtrace.service.runner import RunHooks, build, run
from gradtrace.service.segments import Training
from gradtrace.service.spec import RunSpec, spec_from_json, spec_from_text
from gradtrace.tracer.errors import SpecError
from gradtrace.tracer.sinks import MemorySink
from tests.service.cli import gradtrace, ok, refused

QUICK = {"hidden": "8", "batch_size": "512", "steps": "6"}


def spec(seed: int = 0, **options: object) -> RunSpec:
    return spec_from_text("digits-mlp", {**QUICK, "seed": str(seed)}, every=3, **options)


def test_a_blocked_run_trains_only_what_lies_beyond() -> None:
    blocked = spec(blocked=("hidden.0",))
    before = {name: p.detach().clone() for name, p in build(blocked).model.named_parameters()}
    training = Training(blocked, sink := MemorySink(), "r")
    training.advance()
    after = dict(training.instance.model.named_parameters())
    assert {name for name, p in after.items() if not torch.equal(p, before[name])} == {
        *("hidden.1.weight", "hidden.1.bias", "head.weight", "head.bias"),
    }
    assert training.record.parameters["blocked"] == "hidden.0"
    for step in sink.steps.values():
        assert {c.component: c.traffic for c in step.traces[0].components}["hidden.0"] == 0
        assert step.notes == ()


def test_untraced_steps_are_blocked_too_and_traced_ones_change_nothing() -> None:
    ends = []
    for every in (1, 100):
        training = Training(spec(blocked=("hidden.0",)).model_copy(update={"every": every}), MemorySink(), "r")
        training.advance()
        ends.append([p.detach() for p in training.instance.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_rows_add_the_copies_up() -> None:
    specs = [spec(seed) for seed in (0, 1, 2)]
    sink = MemorySink()
    ablation = Ablation(sink)
    copies = copies_of(specs, [("hidden.0",), ("hidden.0", "head")])
    assert [(c.parameters.seed, c.blocked) for c in copies[:3]] == [
        (0, ()),
        (0, ("hidden.0",)),
        (0, ("hidden.0", "head")),
    ]
    assert all(c.kernels == "traceable" for c in copies)
    assert ablation.train(copies, lambda _: RunHooks())
    plain, one, both = ablation.rows("greedy", "training")
    assert [r["blocked"] for r in (plain, one, both)] == [None, "hidden.0", "hidden.0+head"]
    assert plain["rise"] is None and plain["share"] is None and both["share"] is None
    results = {seed: run(specs[seed].model_copy(update={"kernels": "traceable"}), MemorySink()) for seed in range(3)}
    assert plain["held_out"] == fmean(r.after["loss"] for r in results.values())
    assert plain["held_out_sd"] == stdev(r.after["loss"] for r in results.values())
    assert plain["loss"] == fmean(r.losses[-1] for r in results.values())  # a tenth of 6 steps is one
    # blocked at the head, nothing is learnt at all
    assert both["held_out"] == pytest.approx(fmean(r.before["loss"] for r in results.values()), abs=1e-12)
    rises = [c.held_out - results[c.seed].after["loss"] for c in ablation.copies if c.blocked == ("hidden.0",)]
    assert (one["rise"], one["rise_sd"]) == (fmean(rises), stdev(rises))
    unblocked = {c.result.run for c in ablation.copies if not c.blocked}
    traced = [t for (r, _), s in sink.steps.items() if r in unblocked for t in s.traces]
    mass = sum(c.mass for t in traced for c in t.components if c.component == "hidden.0")
    total = sum(p.mass for t in traced for p in t.parameters)
    assert one["share"] == pytest.approx(mass / total) and 0 < one["share"] < 1
    assert {sink.runs[r].parameters.get("blocked") for r in unblocked} == {None}


def test_the_rows_add_up_what_was_contested_and_what_came_from_outside() -> None:
    """Over all traced steps and seeds together, and of the unblocked copies alone."""
    small = {"hidden": "8", "layers": "3", "batch_size": "512", "steps": "6"}
    specs = [spec_from_text("highway", {**small, "seed": str(seed)}, every=3) for seed in (0, 1)]
    names = ("layers.1.carry", "layers.1.transform", "layers.0")
    sink = MemorySink()
    ablation = Ablation(sink)
    assert ablation.train(copies_of(specs, [(name,) for name in names]), lambda _: RunHooks())
    rows = ablation.rows("greedy", "training")
    assert [r["blocked"] for r in rows] == [None, *names]
    assert (rows[0]["foreign_share"], rows[0]["win_rate"]) == (None, None)
    unblocked = {c.result.run for c in ablation.copies if not c.blocked}
    traced = [t for (r, _), s in sink.steps.items() if r in unblocked for t in s.traces]
    assert len(traced) == 4 and {(t.mode, t.batch) for t in traced} == {("greedy", "training")}
    total = sum(p.mass for t in traced for p in t.parameters)
    for row in rows[1:]:
        seen = [c for t in traced for c in t.components if c.component == row["blocked"]]
        assert len(seen) == 4
        assert row["foreign_share"] == pytest.approx(sum(c.foreign for c in seen) / total)
        assert row["share"] == pytest.approx(sum(c.mass for c in seen) / total)
        assert 0 < row["foreign_share"] <= row["share"] < 1
        won, contested = sum(c.won for c in seen), sum(c.contested for c in seen)
        if row["blocked"] == "layers.0":
            assert row["foreign_share"] < row["share"]  # it has parameters of its own
            assert contested == 0 and row["win_rate"] is None  # and there is no way round it
        else:
            assert 0 < won < contested and row["win_rate"] == won / contested


def test_one_seed_has_no_spread() -> None:
    ablation = Ablation(MemorySink())
    assert ablation.train(copies_of([spec()], [("hidden.0",)]), lambda _: RunHooks())
    assert all(r["held_out_sd"] is None and math.isfinite(r["held_out"]) for r in ablation.rows("greedy", "training"))


def test_an_interrupted_ablation_keeps_what_it_has() -> None:
    ablation = Ablation(MemorySink())
    asked = iter([False, False, True])
    assert not ablation.train(
        copies_of([spec()], [("hidden.0",), ("head",)]), lambda _: RunHooks(), lambda: next(asked)
    )
    assert [r["blocked"] for r in ablation.rows("greedy", "training")] == [None, "hidden.0"]


def test_specs_that_block_are_checked() -> None:
    made = spec(blocked=("hidden.0",))
    assert spec_from_json(made.model_dump_json()) == made
    with pytest.raises(SpecError, match="only the mode greedy"):
        spec(blocked=("hidden.0",), modes=("greedy", "maxprod"))
    with pytest.raises(SpecError, match=r"no component 'hiden.0'. Did you mean hidden.0"):
        Training(spec(blocked=("hiden.0",)), MemorySink(), "r")
    with pytest.raises(SpecError, match="only the mode greedy"):
        copies_of([spec(modes=("maxprod",))], [("head",)])


@pytest.mark.full
def test_the_command() -> None:
    arguments = [f"--set={name}={value}" for name, value in QUICK.items()]
    arguments = ["ablate", "digits-mlp", *arguments, "--component", "hidden.0", "--seeds", "0,3", "--sink", "memory"]
    done = gradtrace(*arguments, "--format", "csv")
    rows = list(csv.DictReader(ok(done).splitlines()))
    assert [r["blocked"] for r in rows] == ["", "hidden.0"] and {r["runs"] for r in rows} == {"2"}
    assert float(rows[1]["rise"]) > 0 and 0 < float(rows[1]["share"]) < 1
    assert "Copy 4 of 4: seed 3, hidden.0 blocked." in done.stderr
    said = refused(gradtrace(*arguments[:-1], "memory", "--set", "seed=3"), 2)
    assert "Name the seeds of the copies by --seeds" in said
    one = gradtrace("run", "digits-mlp", "--block", "hedd", "--steps", "1", "--sink", "memory", "--format", "json")
    assert "Did you mean head" in refused(one, 2)


@pytest.mark.parametrize(("given", "name"), [((), "ablation"), (("--experiment", "mine"), "mine")])
def test_its_runs_are_grouped_under_a_name_of_their_own(given: tuple[str, ...], name: str) -> None:
    assert command.make_context("ablate", ["highway", "--component", "embed", *given]).params["experiment"] == name


def test_a_component_that_is_not_there_is_told_before_anything_is_trained() -> None:
    with pytest.raises(SpecError, match=r"digits-mlp cannot be trained with hidden\.7 blocked"):
        copies_of([spec()], [("hidden.0",), ("hidden.7",)])


def test_the_examples_of_the_command_name_components_that_are_there() -> None:
    lines = [line.split() for line in (command.help or "").splitlines() if line.strip().startswith("gradtrace ablate")]
    assert len(lines) >= 4
    for words in lines:
        given = dict(pairwise(words))
        settings = dict([given["--set"].split("=")]) if "--set" in given else {}
        groups = [tuple(b.split("+")) for a, b in pairwise(words) if a == "--component"]
        assert len(copies_of([spec_from_text(words[2], settings)], groups)) == 1 + len(groups)
