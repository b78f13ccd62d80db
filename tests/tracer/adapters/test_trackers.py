"""What TensorBoard and MLflow are given is what the traces say."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradtrace.tracer.errors import SinkClosedError
from gradtrace.tracer.sinks import MemorySink, SeveralSinks, Sink
from gradtrace.tracer.steptrace import StepTrace
from tests.synthetic import run_record, step_trace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from gradtrace.tracer.adapters.mlflow import MlflowSink
    from gradtrace.tracer.adapters.shares import share_values
    from gradtrace.tracer.adapters.tensorboard import TensorBoardSink


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings of MLflow and TensorBoard are not failures."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


STEPS = [
    step_trace("r", n, epoch=n // 2, modes=("greedy", "maxprod"), batches=("training", "probe")) for n in (0, 3, 7)
]


def expected(step: StepTrace) -> dict[str, float]:
    """Every curve's value at a step, from the definitions in docs/semantics.md."""
    values = {"loss": step.loss}
    for t in step.traces:
        for row in t.components:
            where = f"{t.mode}/{t.batch}"
            values[f"{where}/share/{row.component}"] = row.share
            values[f"{where}/foreign_share/{row.component}"] = row.foreign * row.share / row.mass if row.mass else 0.0
            if row.contested:
                values[f"{where}/win_rate/{row.component}"] = row.won / row.contested
    return values


def fill(sink: Sink) -> None:
    sink.open_run(run_record("r", experiment="e", lr=0.25))
    sink.open_run(run_record("r", experiment="e", lr=0.25))
    for step in [*STEPS, STEPS[0]]:
        sink.write(step)
    sink.close_run("r", "INTERRUPTED", "Ctrl-C")
    assert sink.flush() == len(STEPS)
    sink.close()
    with pytest.raises(SinkClosedError):
        sink.write(STEPS[0])


def test_tensorboard_shows_each_share_once_a_step(tmp_path: Path) -> None:
    fill(TensorBoardSink(tmp_path))
    events = EventAccumulator(str(tmp_path / "r"))
    events.Reload()
    found = {(name, e.step): e.value for name in events.Tags()["scalars"] for e in events.Scalars(name)}
    count = sum(len(events.Scalars(name)) for name in events.Tags()["scalars"])
    wanted = {(name, step.step): value for step in STEPS for name, value in expected(step).items()}
    assert count == len(found) == len(wanted)
    assert found == pytest.approx(wanted, rel=1e-6)


def test_mlflow_has_each_share_once_a_step_with_parameters_and_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the part of MLflow that needs no database package
    uri = tmp_path.as_uri()
    fill(MlflowSink(uri))
    client = MlflowClient(uri)
    experiment: Any = client.get_experiment_by_name("e")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("r", "KILLED")
    assert run.data.params["lr"] == "0.25" and run.data.params["workload"] == "synthetic"
    assert run.data.tags["reason"] == "Ctrl-C"
    found = {
        (name, m.step): m.value for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)
    }
    wanted = {(name, step.step): value for step in STEPS for name, value in expected(step).items()}
    as_named = {("".join(c if c.isalnum() or c in "_-. :/" else "_" for c in k), n): v for (k, n), v in wanted.items()}
    assert found == pytest.approx(as_named)
    # A second sink on the same store goes on with the run.
    again = MlflowSink(uri)
    again.open_run(run_record("r", experiment="e", lr=0.25))
    again.write(step_trace("r", 9))
    again.close()
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_several_sinks_are_given_the_same(tmp_path: Path) -> None:
    memory, other = MemorySink(), MemorySink()
    fill(SeveralSinks(memory, TensorBoardSink(tmp_path), other))
    assert memory.steps == other.steps and list(memory.statuses.values()) == [("INTERRUPTED", "Ctrl-C")]
    with pytest.raises(ValueError, match="at least one"):
        SeveralSinks()


def test_several_sinks_are_all_closed_when_one_raises() -> None:
    class Broken(MemorySink):
        def close(self) -> None:
            raise OSError("no space left")

    memory = MemorySink()
    with pytest.raises(OSError, match="no space"):
        SeveralSinks(Broken(), memory).close()
    with pytest.raises(SinkClosedError):
        memory.write(STEPS[0])


def test_what_is_not_finite_has_no_curve() -> None:
    from dataclasses import replace

    assert "loss" not in share_values(replace(STEPS[0], loss=float("nan")))
