"""Checkpoints: all of the state comes back bit for bit; torn, foreign and hostile ones are refused before anything changes."""

from __future__ import annotations

import json
import math
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradtrace.service import checkpoint
from gradtrace.service.checkpoint import Position, checkpoint_name, checkpoint_path
from gradtrace.service.spec import RunSpec, spec_from_text
from gradtrace.service.state_codec import decode, encode
from gradtrace.service.workloads.instance import Batches, WorkloadInstance
from gradtrace.tracer.errors import CheckpointError

SPEC = spec_from_text("digits-mlp", {"steps": "5"})


class Counter:
    """Something of a workload's own that changes while it trains."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"seen": 0, "pair": (1, 2.5), 7: [None, True], "worst": math.inf}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class Net(nn.Module):
    """Tied weights, dropout, a buffer that `state_dict` leaves out, and one of half precision."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(width)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long), persistent=False)
        self.register_buffer("small", torch.zeros(3, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.small += 0.25
        return nn.functional.dropout(self.second(self.norm(self.first(x).tanh())), 0.3).sum()


def made(width: int = 6, optimizer: type[torch.optim.Optimizer] = torch.optim.Adam) -> WorkloadInstance:
    """A workload with everything that can have a state."""
    torch.manual_seed(1)
    model = Net(width)
    chosen = optimizer(model.parameters(), lr=0.05)
    inputs = torch.randn(20, width)
    return WorkloadInstance(
        model=model,
        optimizer=chosen,
        batches=Batches(inputs, inputs, 4, 0),
        loss=lambda batch: model(batch[0]),
        probe=(inputs, inputs),
        evaluate=dict,
        scheduler=torch.optim.lr_scheduler.OneCycleLR(chosen, 0.1, total_steps=50),
        scaler=torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2),
        stateful={"counter": Counter()},
    )


def stepped(instance: WorkloadInstance, steps: range) -> list[float]:
    """Train, using every source of chance; the losses, and numbers drawn on the way."""
    told = []
    for n in steps:
        instance.optimizer.zero_grad()
        loss = instance.loss(instance.batches.batch(0, n % len(instance.batches)))
        assert instance.scaler is not None and instance.scheduler is not None
        instance.scaler.scale(loss).backward()
        instance.scaler.step(instance.optimizer)
        instance.scaler.update()
        instance.scheduler.step()
        counter = instance.stateful["counter"]
        assert isinstance(counter, Counter)
        counter.state["seen"] += 1
        told += [float(loss.detach()), random.random(), float(np.random.standard_normal()), random.gauss(0, 1)]
    return told


def everything(instance: WorkloadInstance) -> str:
    """All of a workload's state as text."""
    tensors: dict[str, torch.Tensor] = {}
    state = encode(checkpoint._state(instance), "", tensors)
    return json.dumps([state, {k: str(v.view(-1).view(torch.uint8).tolist()) for k, v in tensors.items()}])


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.NAdam, torch.optim.RMSprop])
def test_training_goes_on_bit_for_bit(tmp_path: Path, optimizer: type[torch.optim.Optimizer]) -> None:
    path = checkpoint_path(tmp_path, "r", checkpoint_name(5, 1))
    whole = made(optimizer=optimizer)
    stepped(whole, range(5))
    checkpoint.save(path, "r", SPEC, whole, Position(5, 2, 1))
    rest = stepped(whole, range(5, 12))

    again = made(optimizer=optimizer)
    stepped(again, range(2))  # another state, and other random states
    random.seed(77)
    assert checkpoint.load(path, "r", SPEC, again) == Position(5, 2, 1)
    assert stepped(again, range(5, 12)) == rest
    assert everything(again) == everything(whole)
    assert again.model.second.weight is again.model.first.weight


def test_states_come_back_with_their_types() -> None:
    state = {"a": (1, [2.5, (None,)]), 3: {"x": math.nan, "y": -math.inf}, "t": torch.arange(3), "n": np.arange(4.0)}
    tensors: dict[str, torch.Tensor] = {}
    back = decode(json.loads(json.dumps(encode(state, "s", tensors))), tensors)
    assert back["a"] == (1, [2.5, (None,)])
    assert math.isnan(back[3]["x"]) and back[3]["y"] == -math.inf
    assert torch.equal(back["t"], torch.arange(3)) and np.array_equal(back["n"], np.arange(4.0))
    with pytest.raises(CheckpointError, match=r"'s/o' is a .*Counter; a checkpoint keeps tensors"):
        encode({"o": Counter()}, "s", {})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = checkpoint_path(tmp_path, "r", checkpoint_name(5, 1))
    instance = made()
    stepped(instance, range(3))
    checkpoint.save(path, "r", SPEC, instance, Position(5, 2, 1))
    return path


def refused(path: Path, match: str, run: str = "r", spec: RunSpec = SPEC, width: int = 6) -> None:
    """Loading fails with these words, and changes neither the workload nor the random states."""
    instance = made(width)
    before, chance = everything(instance), (random.getstate(), torch.get_rng_state().tolist())
    with pytest.raises(CheckpointError, match=match):
        checkpoint.load(path, run, spec, instance)
    assert everything(instance) == before
    assert (random.getstate(), torch.get_rng_state().tolist()) == chance


def test_foreign_checkpoints_are_refused(saved: Path) -> None:
    refused(saved, "is of run 'r', not of 'other'", run="other")
    refused(saved, "made under another spec", spec=spec_from_text("digits-mlp", {"steps": "5", "lr": "0.5"}))
    refused(saved, r"of another model: .* is torch.float32\[6, 6\] there, torch.float32\[7, 7\] here", width=7)
    refused(saved.with_name(checkpoint_name(6, 1)), "is not there.*GRADTRACE_CHECKPOINTS")


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def with_long_header(data: bytes) -> bytes:
    return struct.pack("<Q", 2**62) + data[8:]


def altered(data: bytes) -> bytes:
    return data.replace(b'step\\": 5', b'step\\": 9')


@pytest.mark.parametrize("spoil", [cut, flipped, with_long_header, altered, lambda _: b"", lambda _: b"\x80\x04pickle"])
def test_damaged_checkpoints_are_refused(saved: Path, spoil: Callable[[bytes], bytes]) -> None:
    data = saved.read_bytes()
    spoiled = spoil(data)
    assert spoiled != data
    saved.write_bytes(spoiled)
    refused(saved, "is torn or no checkpoint|is damaged: its digest")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "0000000005-1.safetensors/..",
        "/etc/passwd",
        "x.pkl",
        "",
        "..",
        "0000000005-1.safetensors\n",
        "٠" * 10 + "-1.safetensors",
    ],
)
def test_names_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="is no name of a checkpoint"):
        checkpoint_path(tmp_path, "r", name)


@pytest.mark.parametrize("run", ["..", "a/../..", "/etc", "", "a..b", ".hidden", "a\n", "a\x00", "x" * 200])
def test_runs_lead_nowhere_else(tmp_path: Path, run: str) -> None:
    with pytest.raises(CheckpointError, match="is no id of a run"):
        checkpoint_path(tmp_path, run, checkpoint_name(1, 1))


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "r").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(CheckpointError, match="leads out of"):
        checkpoint_path(tmp_path / "root", "r", checkpoint_name(1, 1))


def test_a_write_that_fails_leaves_the_old_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot be written .*No space left.* The one before it stands"):
        checkpoint.save(saved, "r", SPEC, made(), Position(9, 9, 1))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_old_checkpoints_go_and_later_workers_ones_stay(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    names = [checkpoint_name(1, 1), checkpoint_name(2, 1), checkpoint_name(3, 2), checkpoint_name(4, 3)]
    left = f".{checkpoint_name(3, 2)}.0badf00d.part"
    theirs = f".{checkpoint_name(5, 3)}.0badf00d.part"
    for name in (*names, left, theirs, "notes.txt"):
        (folder / name).touch()
    checkpoint.prune(tmp_path, "r", frozenset(names[1:3]), fence=2)
    assert {p.name for p in folder.iterdir()} == {*names[1:], theirs, "notes.txt"}
