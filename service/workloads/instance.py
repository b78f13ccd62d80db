"""What a workload builds: a model, its optimizer, and data whose position is a pair of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
Measure = Callable[[Tensor, Tensor], Tensor]
"""A scalar of (outputs of the model, targets)."""

IGNORE = -100
"""Target of a place at which nothing is asked: what PyTorch's cross-entropy leaves out by default."""


@dataclass(frozen=True, slots=True)
class Batches:
    """Training examples in an order that (seed, epoch) alone decides.

    Any batch can be made again from its epoch and index, whatever ran before: a run that goes on from a checkpoint
    sees the data that it would have seen. The last batch of an epoch may be smaller.

    Attributes:
        inputs: [examples, ...].
        targets: [examples, ...].
        batch_size: examples in a batch.
        seed: of the order; the global random state is neither read nor changed.
    """

    inputs: Tensor
    targets: Tensor
    batch_size: int
    seed: int

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.inputs) / self.batch_size)

    def order(self, epoch: int) -> Tensor:
        """The permutation [examples] of one epoch."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return torch.randperm(len(self.inputs), generator=generator)

    def batch(self, epoch: int, index: int, order: Tensor | None = None) -> Batch:
        """Inputs and targets of batch `index` of `epoch`; pass the epoch's `order` to save making it again."""
        order = self.order(epoch) if order is None else order
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.inputs[rows], self.targets[rows]


class Stateful(Protocol):
    """Something whose state can be taken and put back: plain data, tensors and arrays."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""

    def load_state_dict(self, state: dict[str, Any]) -> object:
        """Put a state back."""


@dataclass(frozen=True, slots=True)
class WorkloadInstance:
    """One workload, ready to train.

    Attributes:
        model: the model, in training mode.
        optimizer: over all parameters of the model.
        batches: the training data.
        loss: scalar loss of the model on a batch.
        probe: a batch of held-out examples that never changes.
        evaluate: loss and accuracy on held-out examples, without gradients; leaves model and random state as they were.
        notes: what was read, one sentence each.
        scheduler: of the learning rate, stepped after every optimizer step; None for none.
        scaler: of the loss, for mixed precision; None for none.
        stateful: whatever else changes while it trains, by name; checkpoints keep it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    loss: Callable[[Batch], Tensor]
    probe: Batch
    evaluate: Callable[[], dict[str, float]]
    notes: tuple[str, ...] = ()
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    scaler: torch.amp.GradScaler | None = None
    stateful: Mapping[str, Stateful] = field(default_factory=dict)


def supervised(
    model: nn.Module,
    lr: float,
    batches: Batches,
    held_out: Batch,
    *,
    loss: Measure,
    accuracy: Measure,
    probe_size: int,
    notes: tuple[str, ...],
    clip: float | None = None,
) -> WorkloadInstance:
    """A workload whose model answers a batch of inputs, trained by Adam.

    Args:
        model: the model.
        lr: learning rate of Adam.
        batches: the training data.
        held_out: inputs and targets that are not trained on; the probe batch is the first `probe_size` of them.
        loss: scalar loss of outputs and targets.
        accuracy: part of the targets that the outputs get right.
        probe_size: examples in the probe batch.
        notes: what was read.
        clip: norm to which all gradients together are cut before each step of the optimizer (Pascanu et al. 2013).
            The traces see them uncut.
    """

    def evaluate() -> dict[str, float]:
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                outputs = model(held_out[0])
                value, right = loss(outputs, held_out[1]), accuracy(outputs, held_out[1])
        finally:
            model.train(training)
        return {"loss": float(value), "accuracy": float(right)}

    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    if clip is not None:

        def cut(_optimizer: torch.optim.Optimizer, _args: object, _kwargs: object) -> None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)

        optimizer.register_step_pre_hook(cut)
    return WorkloadInstance(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss=lambda batch: loss(model(batch[0]), batch[1]),
        probe=(held_out[0][:probe_size], held_out[1][:probe_size]),
        evaluate=evaluate,
        notes=notes,
    )


def classifier(
    model: nn.Module,
    lr: float,
    batches: Batches,
    held_out: Batch,
    *,
    probe_size: int,
    notes: tuple[str, ...],
    clip: float | None = None,
) -> WorkloadInstance:
    """`supervised` for a model that gives logits [..., classes] for targets [...]: cross-entropy, but for `IGNORE`."""
    return supervised(
        model,
        lr,
        batches,
        held_out,
        loss=cross_entropy,
        accuracy=classes_right,
        probe_size=probe_size,
        notes=notes,
        clip=clip,
    )


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of logits [..., classes] over the targets [...] that are not `IGNORE`."""
    return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=IGNORE)


def classes_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Part of the targets [...] that are not `IGNORE` whose logit is the largest of [..., classes]."""
    asked = targets != IGNORE
    return (logits.argmax(-1) == targets)[asked].double().mean()
