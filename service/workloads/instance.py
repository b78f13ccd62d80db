"""What a workload builds: a model, its optimizer, and data whose position is a pair of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


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
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Batches
    loss: Callable[[Batch], Tensor]
    probe: Batch
    evaluate: Callable[[], dict[str, float]]
    notes: tuple[str, ...] = ()


def classifier(
    model: nn.Module, lr: float, batches: Batches, held_out: Batch, *, probe_size: int, notes: tuple[str, ...]
) -> WorkloadInstance:
    """A workload whose model gives logits [..., classes] for targets [...]: cross-entropy, Adam, accuracy.

    Args:
        model: the model.
        lr: learning rate of Adam.
        batches: the training data.
        held_out: inputs and targets that are not trained on; the probe batch is the first `probe_size` of them.
        probe_size: examples in the probe batch.
        notes: what was read.
    """

    def loss(batch: Batch) -> Tensor:
        logits = model(batch[0])
        return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[1].reshape(-1))

    def evaluate() -> dict[str, float]:
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                logits = model(held_out[0])
                value = nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), held_out[1].reshape(-1))
                right = (logits.argmax(-1) == held_out[1]).double().mean()
        finally:
            model.train(training)
        return {"loss": float(value), "accuracy": float(right)}

    return WorkloadInstance(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
        batches=batches,
        loss=loss,
        probe=(held_out[0][:probe_size], held_out[1][:probe_size]),
        evaluate=evaluate,
        notes=notes,
    )
