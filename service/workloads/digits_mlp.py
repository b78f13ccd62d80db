"""`digits-mlp`: a multilayer perceptron on the UCI handwritten digits that scikit-learn ships."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from gradtrace.service.workloads.digits import CLASSES, PIXELS, digits_classifier
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.service.workloads.parameters import DigitsMlpParameters


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
    return digits_classifier(DigitsMlp(parameters.hidden, parameters.layers, parameters.dropout), parameters)
