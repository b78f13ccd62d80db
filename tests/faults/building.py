"""Builds `fault-net`."""

from __future__ import annotations

import contextlib
import os
import sys
import time

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.instance import Batch, Batches, WorkloadInstance, classifier
from tests.faults.workloads import FaultNetParameters

CLASSES, WIDTH, EXAMPLES = 3, 10, 96


class FaultNet(nn.Module):
    """Two layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(WIDTH, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.dropout(self.first(x).tanh(), 0.2, self.training)
        return self.head(x + self.second(x).relu())


def build(parameters: FaultNetParameters) -> WorkloadInstance:
    """The net, on data that the seed alone decides."""
    inputs = torch.randn(EXAMPLES, WIDTH)
    targets = torch.randint(CLASSES, (EXAMPLES,))
    instance = classifier(
        FaultNet(),
        parameters.lr,
        Batches(inputs, targets, parameters.batch_size, parameters.seed),
        (inputs, targets),
        probe_size=8,
        notes=(),
    )
    loss, steps = instance.loss, [0]

    def poisoned(batch: Batch) -> Tensor:
        if torch.is_grad_enabled() and instance.model.training:
            steps[0] += 1
            time.sleep(parameters.pause)
            if steps[0] > parameters.at:
                go_wrong(parameters.poison)
        return loss(batch)

    object.__setattr__(instance, "loss", poisoned)
    # Both have a state that changes with the steps: a run that goes on without it ends with other weights.
    object.__setattr__(instance, "scheduler", torch.optim.lr_scheduler.ExponentialLR(instance.optimizer, 0.97))
    object.__setattr__(instance, "scaler", torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5))
    return instance


def go_wrong(how: str) -> None:
    """Do what no workload should."""
    secret = os.environ.get("PLANTED_PASSWORD", "")
    match how:
        case "raise":
            raise RuntimeError(f"cannot go on at \x1b[31m{secret}\x1b[0m")
        case "hang":
            while True:
                time.sleep(0.1)
        case "stubborn":
            while True:
                with contextlib.suppress(Exception):
                    time.sleep(0.1)
        case "eat":
            eaten = []
            while True:
                eaten.append(bytearray(os.urandom(1)) * 2**25)
                time.sleep(0.02)
        case "exit":
            sys.exit(3)
        case "leave":
            os._exit(3)
        case "print":
            print(f"the password is {secret}, and of the store {os.environ['GRADTRACE_NEO4J_PASSWORD']}")
            print(f"on stderr as well: {secret}", file=sys.stderr)
            raise ValueError(os.environ["GRADTRACE_NEO4J_PASSWORD"])
