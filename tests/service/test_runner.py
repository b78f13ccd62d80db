"""The runner: spec in, traced steps out, the same bits each time, and whole whatever ends it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradtrace.service import runner
from gradtrace.service.epochs import EpochShares
from gradtrace.service.runner import Progress, RunHooks, RunResult, run
from gradtrace.service.spec import RunSpec, spec_from_text
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.tracer.sinks import MemorySink
from gradtrace.tracer.steptrace import StepTrace

SMALL_LSTM = {"hidden": "8", "embedding": "6", "sequence_length": "5", "batch_size": "4", "characters": "2000"}


def ran(spec: RunSpec, **hooks: Any) -> tuple[RunResult, MemorySink, WorkloadInstance]:
    """Run a spec into memory; also the workload with its final weights."""
    kept: list[WorkloadInstance] = []
    told = hooks.pop("on_start", None)

    def on_start(run_id: str, instance: WorkloadInstance, steps: int) -> None:
        kept.append(instance)
        if told:
            told(run_id, instance, steps)

    sink = MemorySink()
    result = run(spec, sink, run_id="r", hooks=RunHooks(on_start=on_start, **hooks))
    return result, sink, kept[0]


def weights(instance: WorkloadInstance) -> list[torch.Tensor]:
    return [p.detach() for p in instance.model.parameters()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def flat(step: StepTrace) -> list[Any]:
    """A step as plain comparable data."""
    return [
        (
            t.mode,
            t.batch,
            t.loss,
            t.flow.tolist(),
            t.mass.tolist(),
            t.traffic.tolist(),
            t.parameters,
            t.components,
            t.routes,
        )
        for t in step.traces
    ]


def test_traces_every_nth_step_and_says_so() -> None:
    result, sink, _ = ran(
        spec_from_text("digits-mlp", {"steps": "50", "hidden": "8"}, every=20, modes=("greedy", "maxprod"))
    )
    assert (result.status, result.reason, result.steps, result.traced, result.stored) == ("FINISHED", None, 50, 3, 3)
    assert list(sink.steps) == [("r", 0), ("r", 20), ("r", 40)]
    assert sink.statuses["r"] == ("FINISHED", None)
    assert [sink.steps["r", s].epoch for s in (0, 20, 40)] == [0, 0, 0]
    assert sink.runs["r"].parameters["hidden"] == 8
    assert sink.runs["r"].modes == ("greedy", "maxprod")
    assert len(result.losses) == 50
    for (_, number), step in sink.steps.items():
        assert step.loss == result.losses[number]
        assert [t.mode for t in step.traces] == ["greedy", "maxprod"]


def test_paths_know_their_example_and_time_step() -> None:
    _, sink, instance = ran(spec_from_text("char-lstm", {**SMALL_LSTM, "steps": "2"}, every=1))
    for step in sink.steps.values():
        [strongest] = [p.strongest for p in step.traces[0].parameters if p.parameter == "lstm.weight_hh_l0"]
        assert strongest is not None
        assert strongest.example in range(instance.batches.batch_size)
        assert strongest.time in range(1, 5)  # the recurrent weight is not felt at time 0, where the state is 0


def test_epochs_are_counted() -> None:
    seen: list[Progress] = []
    result, sink, instance = ran(
        spec_from_text("digits-mlp", {"epochs": "2", "batch_size": "512", "hidden": "4"}, every=1),
        on_progress=seen.append,
    )
    assert len(instance.batches) == 3
    assert [sink.steps["r", s].epoch for s in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [(p.done, p.steps, p.epoch, p.traced) for p in seen] == [(s + 1, 6, s // 3, s + 1) for s in range(6)]
    assert result.epoch_losses == [sum(result.losses[:3]) / 3, sum(result.losses[3:]) / 3]


@pytest.mark.parametrize(
    ("workload", "parameters"),
    [("char-lstm", {**SMALL_LSTM, "layers": "2", "dropout": "0.3"}), ("digits-mlp", {"dropout": "0.3"})],
)
def test_tracing_changes_no_bit_of_the_weights(workload: str, parameters: dict[str, str]) -> None:
    """Traced at every step or at the first one only, on whatever batch: the same kernels give the same weights."""
    parameters = {**parameters, "steps": "12"}
    plain = weights(ran(spec_from_text(workload, parameters, every=10**9, kernels="traceable"))[2])
    for options in ({}, {"batches": "both"}, {"batches": "probe"}, {"modes": ("greedy", "maxprod")}):
        result, _, instance = ran(spec_from_text(workload, parameters, every=1, kernels="traceable", **options))
        assert result.traced == 12
        assert equal(plain, weights(instance)), options
    start = weights(runner.build(spec_from_text(workload, parameters)))
    assert not equal(plain, start)


def test_plain_training_gives_the_weights_of_a_run() -> None:
    """The runner adds nothing of its own to training: a hand-written loop comes to the same bits."""
    spec = spec_from_text("digits-mlp", {"steps": "20", "dropout": "0.2"}, every=5)
    _, _, instance = ran(spec)
    plain = runner.build(spec)
    plain.evaluate()
    for index in range(20):
        plain.optimizer.zero_grad()
        plain.loss(plain.batches.batch(0, index)).backward()
        plain.optimizer.step()
    assert equal(weights(plain), weights(instance))


def test_the_same_spec_gives_the_same_traces() -> None:
    spec = spec_from_text("char-lstm", {**SMALL_LSTM, "steps": "6"}, every=2, batches="both")
    _, first, _ = ran(spec)
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)
    _, second, _ = ran(spec)
    assert [flat(s) for s in first.steps.values()] == [flat(s) for s in second.steps.values()]
    _, other, _ = ran(spec_from_text("char-lstm", {**SMALL_LSTM, "steps": "6", "seed": "1"}, every=2, batches="both"))
    assert flat(first.steps["r", 0]) != flat(other.steps["r", 0])


def test_the_probe_batch_is_the_same_at_every_step() -> None:
    _, sink, _ = ran(spec_from_text("digits-mlp", {"steps": "4", "lr": "1e-9"}, every=1, batches="both"))
    for step in sink.steps.values():
        assert [t.batch for t in step.traces] == ["training", "probe"]
    probe = [t.loss for s in sink.steps.values() for t in s.traces if t.batch == "probe"]
    training = [t.loss for s in sink.steps.values() for t in s.traces if t.batch == "training"]
    assert max(probe) - min(probe) < 1e-4 < max(training) - min(training)


def test_stopping_leaves_whole_steps() -> None:
    result, sink, _ = ran(spec_from_text("digits-mlp", {}, every=2), stop=after(5))
    assert (result.status, result.steps, result.stored) == ("INTERRUPTED", 5, 3)
    assert sink.statuses["r"] == ("INTERRUPTED", "interrupted after 5 of 225 steps")
    assert list(sink.steps) == [("r", 0), ("r", 2), ("r", 4)]


def test_ctrl_c_in_the_middle_drops_the_step_in_work() -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done == 7:
            raise KeyboardInterrupt

    result, sink, _ = ran(spec_from_text("digits-mlp", {}, every=3), on_progress=interrupt)
    assert (result.status, result.steps, result.stored) == ("INTERRUPTED", 7, 3)
    assert sink.statuses["r"][0] == "INTERRUPTED"


def test_an_error_marks_the_run_failed_with_its_reason() -> None:
    def fail(progress: Progress) -> None:
        raise OSError("the bar broke")

    sink = MemorySink()
    with pytest.raises(OSError, match="the bar broke"):
        run(spec_from_text("digits-mlp", {}), sink, run_id="r", hooks=RunHooks(on_progress=fail))
    assert sink.statuses["r"] == ("FAILED", "OSError: the bar broke")


def poisoned(at: int) -> Callable[[str, WorkloadInstance, int], None]:
    """Makes one training batch NaN: the one that step `at` of the first epoch sees."""

    def poison(_run: str, instance: WorkloadInstance, _steps: int) -> None:
        rows = instance.batches.order(0)[at * instance.batches.batch_size : (at + 1) * instance.batches.batch_size]
        instance.batches.inputs[rows] = math.nan

    return poison


def test_non_finite_loss_stops_a_run_that_says_so() -> None:
    result, sink, _ = ran(spec_from_text("digits-mlp", {}, every=1, non_finite="stop"), on_start=poisoned(4))
    assert (result.status, result.steps) == ("FAILED", 5)
    assert result.reason == "the loss became nan at step 4 (policy non_finite=stop)"
    assert [s.non_finite for s in sink.steps.values()] == [False, False, False, False, True]


def test_non_finite_loss_goes_on_otherwise() -> None:
    result, sink, _ = ran(spec_from_text("digits-mlp", {"steps": "8"}, every=1), on_start=poisoned(4))
    assert (result.status, result.steps) == ("FINISHED", 8)
    assert [s.non_finite for s in sink.steps.values()] == [False] * 4 + [True] * 4


def test_thread_count_is_put_back() -> None:
    before = torch.get_num_threads()
    inside: list[int] = []
    ran(
        spec_from_text("digits-mlp", {"steps": "1"}, threads=before + 1),
        on_progress=lambda _: inside.append(torch.get_num_threads()),
    )
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_a_sink_that_holds_other_runs_is_not_counted() -> None:
    sink = MemorySink()
    spec = spec_from_text("digits-mlp", {"steps": "4", "hidden": "4"}, every=2)
    assert run(spec, sink, run_id="a").stored == 2
    assert run(spec, sink, run_id="b").stored == 2


def test_epoch_shares_sum_over_the_traced_steps() -> None:
    shares = EpochShares(MemorySink())
    run(spec_from_text("digits-mlp", {"epochs": "2", "hidden": "8"}, every=7, batches="both"), shares, run_id="r")
    assert isinstance(shares.sink, MemorySink)
    rows = shares.rows("r")
    assert rows
    for row in rows:
        parts = [
            (t, c)
            for s in shares.sink.steps.values()
            if s.epoch == row["epoch"]
            for t in s.traces
            if (t.mode, t.batch) == (row["mode"], row["batch"])
            for c in t.components
            if c.component == row["component"]
        ]
        assert row["steps"] == len(parts)
        total = sum(p.mass for t, _ in parts for p in t.parameters)
        assert row["share"] == pytest.approx(sum(c.mass for _, c in parts) / total)
        assert row["foreign_share"] == pytest.approx(sum(c.foreign for _, c in parts) / total)
        assert row["visits"] == pytest.approx(np.mean([c.visits for _, c in parts]))
        contested = sum(c.contested for _, c in parts)
        assert row["win_rate"] == (sum(c.won for _, c in parts) / contested if contested else None)
        assert 0 <= row["foreign_share"] <= row["share"] + 1e-9


def after(steps: int) -> Callable[[], bool]:
    """A `stop` that says yes once `steps` steps are over."""
    asked = iter(range(steps + 1))
    return lambda: next(asked) == steps
