"""The architectures learn: after a short training the held-out loss is well below what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradtrace.service.runner import build
from gradtrace.service.spec import spec_from_text
from gradtrace.service.workloads import WORKLOADS
from gradtrace.service.workloads.architectures import ARCHITECTURES
from tests.problems.architectures import SMALL

SHORT: dict[str, tuple[dict[str, object], float, float]] = {
    "synthetic-ff": ({"layers": 4, "epochs": 4}, 0.8, 0.35),
    "rnn": ({"lag": 5, "epochs": 4}, 0.2, 0.95),
    "lstm": ({"lag": 10, "epochs": 4}, 0.2, 0.95),
    "gru": ({"lag": 10, "epochs": 3}, 0.2, 0.95),
    "highway": ({"epochs": 4}, 0.25, 0.85),
    "digits-cnn": ({"epochs": 3}, 0.3, 0.85),
    "resnet": ({"epochs": 3}, 0.3, 0.85),
    "seq2seq-attention": ({"length": 5, "epochs": 3, "examples": 2048}, 0.3, 0.85),
    "transformer": ({"length": 5, "epochs": 2, "examples": 2048}, 0.1, 0.95),
    "stack-rnn": ({"kind": "strengths", "lr": 0.01, "max_length": 5, "examples": 1024, "epochs": 8}, 0.2, 0.9),
    "queue-rnn": ({"max_length": 5, "examples": 1024, "epochs": 9}, 0.3, 0.85),
    "ntm": (
        {"bits": 3, "max_length": 3, "slots": 5, "examples": 480, "held_out": 32, "lr": 0.01, "epochs": 10},
        0.6,
        0.8,
    ),
}
"""Workload → parameters, greatest held-out loss as a part of the untrained one, least held-out accuracy."""

ROOT = Path(__file__).resolve().parents[2]

LONG: dict[str, tuple[dict[str, object], float, float]] = {
    "rnn adding": ({"task": "adding"}, 0.05, 0.3),
    "lstm adding": ({"task": "adding"}, 0.02, 0.8),
    "gru adding": ({"task": "adding"}, 0.01, 0.8),
    "stack-rnn superposition": ({"epochs": 6}, 0.05, 0.97),
    "stack-rnn dyck": ({"language": "dyck", "epochs": 4}, 0.1, 0.93),
    "stack-rnn unmarked": ({"language": "unmarked-reversal"}, 0.5, 0.55),
    "stack-rnn padded": (
        {"language": "padded-reversal", "controller": "lstm", "hidden": 32, "lr": 0.01, "epochs": 5},
        0.2,
        0.85,
    ),
    "ntm": ({"epochs": 4}, 0.1, 0.97),
    "ntm feedforward": ({"controller": "feedforward", "epochs": 8}, 0.1, 0.97),
}
"""As `SHORT`. Who always answers the mean in adding has a loss of 1/6, which is 0.08 (`rnn`), 0.15 and 0.09 of the untrained
one, and is right one time in five."""


def learns(workload: str, parameters: dict[str, object], loss: float, accuracy: float) -> None:
    """Train without any tracer, and compare."""
    spec = spec_from_text(workload, {name: str(value) for name, value in parameters.items()})
    instance = build(spec)
    before = instance.evaluate()
    for epoch in range(spec.parameters.epochs):
        for index in range(len(instance.batches)):
            instance.optimizer.zero_grad()
            instance.loss(instance.batches.batch(epoch, index)).backward()
            instance.optimizer.step()
    after = instance.evaluate()
    assert after["loss"] < loss * before["loss"], (before, after)
    assert after["accuracy"] > accuracy, (before, after)


@pytest.mark.parametrize("workload", SHORT)
def test_an_architecture_learns(workload: str) -> None:
    learns(workload, *SHORT[workload])


@pytest.mark.full
@pytest.mark.parametrize("name", LONG)
def test_an_architecture_learns_its_longer_task(name: str) -> None:
    learns(name.split()[0], *LONG[name])


def test_every_architecture_is_trained_and_judged() -> None:
    names = {name for name, *_ in ARCHITECTURES}
    assert names == set(SHORT)
    assert names <= {name.split()[0] for name in SMALL}


@pytest.mark.parametrize("page", ["README.md", "docs/workloads.md"])
def test_the_pages_name_every_workload(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in WORKLOADS if f"`{name}`" not in text] == []
