"""Tracing saved checkpoints after the fact: the traces that training with tracing would have given, once each."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from neo4j import GraphDatabase
from safetensors.torch import save_file
from torch import nn

from gradtrace.service.after import run_id, trace_checkpoints, trace_saved
from gradtrace.service.local import ServerInfo
from gradtrace.service.saved_weights import saved_in
from gradtrace.service.segments import Training, build
from gradtrace.service.spec import RunSpec, spec_from_text
from gradtrace.service.store import Neo4jSink
from gradtrace.service.workloads.instance import Batch
from gradtrace.tracer.errors import CheckpointError
from gradtrace.tracer.sinks import MemorySink
from tests.same import plain, same
from tests.service.cli import environment, gradtrace, ok, refused
from tests.service.store.readback import address, ask, assert_whole

SMALL = {"hidden": "6", "batch_size": "512"}


def spec(batches: str = "probe") -> RunSpec:
    return spec_from_text("digits-mlp", SMALL, every=1, batches=batches)


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, MemorySink]:
    """Four checkpoints of a short training, of every kind that is read, and its traces of the probe batch."""
    folder = tmp_path / "saved"
    folder.mkdir()
    training = Training(spec(), sink := MemorySink(), "trained")
    for number in range(4):
        weights = {k: v.clone() for k, v in training.instance.model.state_dict().items()}
        if number == 0:
            save_file(weights, folder / "first.safetensors", metadata={"step": "0", "epoch": "0"})
        elif number == 1:
            torch.save(weights, folder / "net-v2-step0001.pt")
        elif number == 2:
            torch.save(
                {"model_state_dict": weights, "global_step": 2, "epoch": 0, "optimizer": {"lr": 0.1}}, folder / "b.pth"
            )
        else:
            training.save(folder / "0000000003-1.safetensors")
        training.advance(lambda n=number: training.done > n)
    (folder / "notes.txt").write_text("not a checkpoint")
    return folder, sink


def test_the_traces_are_those_of_training(trained: tuple[Path, MemorySink]) -> None:
    folder, sink = trained
    found = MemorySink()
    looked = trace_checkpoints(folder, spec(), found, run="after")
    assert [(s.step, s.file) for s in looked] == [
        *((0, "first.safetensors"), (1, "net-v2-step0001.pt"), (2, "b.pth"), (3, "0000000003-1.safetensors")),
    ]
    for number in range(4):
        was, is_ = sink.steps["trained", number].traces, found.steps["after", number].traces
        assert all(same(a, b) for a, b in zip(was, is_, strict=True))
    assert found.statuses["after"] == ("FINISHED", None)
    assert found.runs["after"].parameters["checkpoints"] == str(folder)
    both = MemorySink()
    trace_checkpoints(folder, spec("both"), both, run="r")
    assert {t.batch for s in both.steps.values() for t in s.traces} == {"training", "probe"}


def test_a_model_and_a_batch_of_ones_own(trained: tuple[Path, MemorySink], clean_store: ServerInfo) -> None:
    folder, _ = trained
    want, got = MemorySink(), MemorySink()
    trace_checkpoints(folder, spec("training"), want, run="r")
    batch = build(spec()).batches.batch(0, 0)

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def make() -> nn.Module:
        return build(spec()).model

    with Neo4jSink(*address(clean_store)) as sink:
        for target in (got, sink):
            options: dict[str, Any] = {"top_routes": spec().top_routes, "batch_size": 512}
            looked = trace_saved(folder, make, loss, batch, target, run="r", name="mine", **options)
            assert [s.step for s in looked] == [0, 1, 2, 3]
    for number in range(4):
        for a, b in zip(want.steps["r", number].traces, got.steps["r", number].traces, strict=True):
            assert same(a, b)
    assert got.runs["r"].workload == "mine" and got.statuses["r"] == ("FINISHED", None)
    with GraphDatabase.driver(clean_store.uri, auth=(clean_store.user, clean_store.password)) as driver:
        assert_whole(driver, "r", plain(got.steps["r", n] for n in range(4)))
    with pytest.raises(CheckpointError, match="is of another model"):
        trace_saved(folder, lambda: nn.Linear(2, 2), loss, batch, untouched := MemorySink(), run="r", name="mine")
    assert not untouched.runs


def test_twice_is_once(trained: tuple[Path, MemorySink], clean_store: ServerInfo) -> None:
    folder, _ = trained
    kept = MemorySink()
    run = run_id(folder, spec())
    for _ in range(2):
        trace_checkpoints(folder, spec(), kept)
        with Neo4jSink(*address(clean_store)) as sink:
            trace_checkpoints(folder, spec(), sink)
    with GraphDatabase.driver(clean_store.uri, auth=(clean_store.user, clean_store.password)) as driver:
        assert ask(driver, "MATCH (r:Run) RETURN r.id, r.status") == [[run, "FINISHED"]]
        assert_whole(driver, run, plain(kept.steps[run, n] for n in range(4)))


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path("ran").touch, ())


def _spoil(folder: Path, how: str) -> None:
    good = folder / "net-v2-step0001.pt"
    if how == "evil":
        with (folder / "step9.pt").open("wb") as file:
            pickle.dump(Evil(), file, protocol=2)
    elif how == "torn":
        (folder / "step9.safetensors").write_bytes((folder / "first.safetensors").read_bytes()[:100])
    elif how == "twice":
        (folder / "other-1.pt").write_bytes(good.read_bytes())
    elif how == "unnumbered":
        (folder / "last.pt").write_bytes(good.read_bytes())
    elif how == "other":
        torch.save({"head.weight": torch.zeros(2, 2)}, folder / "step9.pt")
    elif how == "list":
        torch.save([torch.zeros(2)], folder / "step9.pt")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("evil", "is not read, since it could run code"),
        ("torn", "is torn or no checkpoint"),
        ("twice", "are both of step 1"),
        ("unnumbered", "Nothing says of which step"),
        ("other", "is of another model: 'hidden.0.weight' is missing there"),
        ("list", "holds no weights by name"),
    ],
)
def test_bad_files_are_refused_before_anything_is_written(
    trained: tuple[Path, MemorySink], how: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, _ = trained
    monkeypatch.chdir(tmp_path)
    _spoil(folder, how)
    sink = MemorySink()
    with pytest.raises(CheckpointError, match=words):
        trace_checkpoints(folder, spec(), sink)
    assert not sink.runs and not sink.steps and not (tmp_path / "ran").exists()


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no folder"):
        saved_in(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        saved_in(tmp_path)


OWN = """
from gradtrace.service.workloads import Workload, WorkloadParameters
WORKLOADS = Workload("my-net", "a small net of one's own", WorkloadParameters, "own_training")
"""
BUILD = """
import torch
from torch import nn
from gradtrace.service.workloads.instance import Batches, supervised

def build(parameters):
    model = nn.Linear(2, 1)
    x = torch.ones(4, 2)
    return supervised(model, 0.1, Batches(x, x[:, :1], 2, 0), (x, x[:, :1]), loss=nn.functional.mse_loss,
                      accuracy=lambda a, b: torch.ones(()), probe_size=2, notes=())
"""


def test_the_command_with_a_workload_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own_training.py").write_text(BUILD)
    saved = tmp_path / "saved"
    saved.mkdir()
    for step in (5, 10):
        torch.save({"weight": torch.full((1, 2), step / 10), "bias": torch.zeros(1)}, saved / f"model_{step}.pt")
    env = environment(PYTHONPATH=str(tmp_path), GRADTRACE_WORKLOAD_MODULES="own")
    arguments = ("trace", saved, "--workload", "my-net", "--sink", f"jsonl:{tmp_path}/out.jsonl", "--format", "csv")
    rows = list(csv.DictReader(ok(gradtrace(*arguments, env=env)).splitlines()))
    assert [(r["step"], r["file"]) for r in rows] == [("5", "model_5.pt"), ("10", "model_10.pt")]
    assert [float(r["loss"]) for r in rows] == pytest.approx([0.0, 1.0])
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(lines) >= 4
    assert "There is no workload 'own_training'" in refused(gradtrace(*arguments[:3], "own_training", env=env), 2)
