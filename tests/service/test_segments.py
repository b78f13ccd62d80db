"""Segments: in whatever pieces a run is trained, weights and traces are those of the run in one go."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradtrace.service.segments import Training, threads
from gradtrace.service.spec import RunSpec, spec_from_text
from gradtrace.tracer.errors import CheckpointError
from gradtrace.tracer.sinks import MemorySink
from tests.same import same

SMALL_LSTM = {
    "hidden": "8",
    "embedding": "6",
    "sequence_length": "5",
    "batch_size": "64",
    "characters": "2000",
    "layers": "2",
    "dropout": "0.3",
}


def weights(training: Training) -> list[torch.Tensor]:
    return [p.detach().clone() for p in training.instance.model.parameters()]


def in_pieces(spec: RunSpec, root: Path, pieces: list[int]) -> tuple[Training, MemorySink]:
    """Train in segments of so many steps, each from a checkpoint in a newly built workload; some are trained twice."""
    sink = MemorySink()
    start: Path | None = None
    for number, steps in enumerate(pieces):
        for attempt in range(1 + number % 2):  # every second segment is lost once, and done again
            random.seed(attempt)
            np.random.seed(attempt)
            torch.manual_seed(attempt)
            training = Training(spec, sink, "r", start=start)
            end = training.done + steps
            training.advance(lambda: training.done >= end)  # noqa: B023 (called at once)
        start = root / f"{training.done}.safetensors"
        training.save(start)
    training = Training(spec, sink, "r", start=start)
    training.advance()
    return training, sink


@pytest.mark.parametrize(
    ("workload", "parameters", "options"),
    [
        (
            "digits-mlp",
            {"hidden": "8", "dropout": "0.2", "batch_size": "256", "epochs": "4"},
            {"every": 3, "batches": "both"},
        ),
        ("char-lstm", {**SMALL_LSTM, "epochs": "3"}, {"every": 2, "modes": ("greedy", "maxprod")}),
    ],
)
def test_pieces_make_the_whole(
    tmp_path: Path, workload: str, parameters: dict[str, str], options: dict[str, Any]
) -> None:
    spec = spec_from_text(workload, parameters, threads=1, **options)
    with threads(1):
        sink = MemorySink()
        whole = Training(spec, sink, "r")
        whole.advance()
        pieces, kept = in_pieces(spec, tmp_path, [1, 4, 2, 3])
    assert whole.over and pieces.over
    assert (pieces.done, pieces.traced) == (whole.done, whole.traced) == (whole.steps, len(sink.steps))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(pieces), strict=True))
    assert list(kept.steps) == list(sink.steps)
    for key, step in sink.steps.items():
        assert same(step, kept.steps[key])


def test_a_segment_keeps_the_thread_count_of_its_run(tmp_path: Path) -> None:
    spec = spec_from_text("digits-mlp", {"hidden": "4", "steps": "3"}, every=2)
    with threads(2):
        training = Training(spec, MemorySink(), "r")
        training.advance(lambda: training.done == 1)
        training.save(tmp_path / "a.safetensors")
    with threads(1):
        Training(spec, MemorySink(), "r", start=tmp_path / "a.safetensors")
        assert torch.get_num_threads() == 2


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    spec = spec_from_text("digits-mlp", {"hidden": "4", "steps": "3"})
    Training(spec, MemorySink(), "a").save(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="is of run 'a', not of 'b'"):
        Training(spec, MemorySink(), "b", start=tmp_path / "a.safetensors")
