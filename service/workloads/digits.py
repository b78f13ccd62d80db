"""The UCI handwritten digits that scikit-learn ships: 1,797 pictures of 8x8 pixels (Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import torch
from torch import nn

from gradtrace.service.workloads.instance import Batch, Batches, WorkloadInstance, classifier
from gradtrace.service.workloads.parameters import WorkloadParameters

HELD_OUT = 360
PROBE_SIZE = 64
SIDE = 8
PIXELS, CLASSES = SIDE * SIDE, 10


def load() -> Batch:
    """Pixels [1797, 64] in [0, 1] and digits [1797], in an order that is the same for every seed."""
    from sklearn.datasets import load_digits  # takes over a second to import

    data = load_digits()
    pixels = torch.tensor(data.data / 16, dtype=torch.float32)
    digits = torch.tensor(data.target, dtype=torch.long)
    # The data set is sorted by writer in part: mix it once.
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    return pixels[order], digits[order]


def digits_classifier(model: nn.Module, parameters: WorkloadParameters) -> WorkloadInstance:
    """A workload on the digits for a model that gives logits [batch, 10] for pixels [batch, 64]."""
    pixels, digits = load()
    training = len(pixels) - HELD_OUT
    return classifier(
        model,
        parameters.lr,
        Batches(pixels[:training], digits[:training], parameters.batch_size, parameters.seed),
        (pixels[training:], digits[training:]),
        probe_size=PROBE_SIZE,
        notes=(f"Loaded {len(pixels):,} digits of the UCI data set; {HELD_OUT} of them are held out.",),
    )
