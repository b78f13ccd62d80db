"""The built-in workloads at reduced size: each with its own model, loss and examples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradtrace.service.workloads import WORKLOADS
from tests.problems.base import Closure, Problem, seeded

SMALL: dict[str, dict[str, Any]] = {
    "char-lstm": {"hidden": 2, "embedding": 2, "sequence_length": 3, "characters": 2000},
    "digits-mlp": {"hidden": 3},
    "synthetic-ff": {"layers": 2},
    "rnn": {"hidden": 3, "symbols": 2, "lag": 2},
    "rnn adding": {"task": "adding", "hidden": 3, "lag": 3},
    "lstm": {"hidden": 2, "symbols": 2, "lag": 2},
    "lstm adding": {"task": "adding", "hidden": 2, "lag": 3},
    "gru": {"hidden": 2, "symbols": 2, "lag": 2},
    "gru adding": {"task": "adding", "hidden": 2, "lag": 3},
    "highway": {"hidden": 3, "layers": 3},
    "digits-cnn": {"channels": 1, "batch_size": 1},
    "resnet": {"channels": 1, "blocks": 2, "batch_size": 1},
    "seq2seq-attention": {"symbols": 2, "length": 3, "hidden": 2},
    "transformer": {"symbols": 2, "length": 2, "width": 4, "heads": 2, "feed_forward": 2},
    "stack-rnn superposition": {"symbols": 2, "max_length": 2, "hidden": 3, "cell": 2},
    "stack-rnn strengths": {"kind": "strengths", "controller": "lstm", "symbols": 2, "max_length": 2, "hidden": 2, "cell": 2},
    "queue-rnn": {"symbols": 2, "max_length": 2, "hidden": 3, "cell": 2},
    "ntm": {"bits": 2, "max_length": 1, "hidden": 3, "slots": 3, "cell": 2},
    "ntm feedforward": {"controller": "feedforward", "bits": 2, "max_length": 1, "hidden": 3, "slots": 3, "cell": 2},
}  # fmt: skip
"""Workload (and variant) → parameters."""

EXAMPLES = 2
NOISE = 0.1
"""Added to inputs that are real numbers: what the seed does not draw could pass for a constant of the model."""


def problem(name: str, parameters: dict[str, Any]) -> Problem:
    """One workload as a problem: its examples are the same for every seed, its weights are not."""
    workload = WORKLOADS[name.split()[0]]

    def make(seed: int) -> tuple[nn.Module, Closure]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made_up = {"examples": EXAMPLES, "held_out": 1} if "examples" in workload.parameters.model_fields else {}
            instance = workload.build(workload.parameters(**{"batch_size": EXAMPLES, **made_up, **parameters}))
            model = instance.model.double()
            inputs, targets = (_double(x) for x in instance.batches.batch(0, 0))
            if inputs.is_floating_point():
                inputs = inputs + NOISE * torch.randn_like(inputs)
        return model, seeded(seed, lambda: instance.loss((inputs, targets)))

    return Problem(f"workload/{name.replace(' ', '_')}", make, regions=True)


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def problems() -> list[Problem]:
    """Every built-in workload."""
    return [problem(name, parameters) for name, parameters in SMALL.items()]
