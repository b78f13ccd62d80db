"""`digits-mlp`: a multilayer perceptron on the UCI handwritten digits that scikit-learn ships."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.instance import Batches, WorkloadInstance, classifier
from gradtrace.service.workloads.parameters import DigitsMlpParameters

HELD_OUT = 360
PROBE_SIZE = 64
PIXELS, CLASSES = 64, 10


class Hidden(nn.Linear):
    """A linear layer with ReLU and dropout: one component."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__(inputs, outputs)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """[batch, outputs] of [batch, inputs]."""
        x = nn.functional.relu(super().forward(x))
        return nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x


class DigitsMlp(nn.Module):
    """Hidden layers and a linear head; components `hidden.0`, `hidden.1`, ... and `head`."""

    def __init__(self, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        widths = [PIXELS] + [hidden] * layers
        self.hidden = nn.ModuleList(Hidden(i, o, dropout) for i, o in pairwise(widths))
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [batch, 10] for pixels [batch, 64] in [0, 1]."""
        for layer in self.hidden:
            pixels = layer(pixels)
        return self.head(pixels)


def build(parameters: DigitsMlpParameters) -> WorkloadInstance:
    """Load the digits, make the model. Draws the weights from torch's global random state."""
    from sklearn.datasets import load_digits  # takes over a second to import

    data = load_digits()
    pixels = torch.tensor(data.data / 16, dtype=torch.float32)
    digits = torch.tensor(data.target, dtype=torch.long)
    # The data set is sorted by writer in part: mix it once, in the same way for every seed.
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    pixels, digits = pixels[order], digits[order]
    training = len(pixels) - HELD_OUT
    return classifier(
        DigitsMlp(parameters.hidden, parameters.layers, parameters.dropout),
        parameters.lr,
        Batches(pixels[:training], digits[:training], parameters.batch_size, parameters.seed),
        (pixels[training:], digits[training:]),
        probe_size=PROBE_SIZE,
        notes=(f"Loaded {len(pixels):,} digits of the UCI data set; {HELD_OUT} of them are held out.",),
    )
