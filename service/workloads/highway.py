"""`highway`: a highway network on the handwritten digits (Srivastava, Greff & Schmidhuber 2015, "Training Very Deep
Networks").

A layer mixes what it is given with what it makes of it: y = H(x)·T(x) + x·(1 − T(x)).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import HighwayParameters
from gradtrace.service.workloads.digits import CLASSES, PIXELS, digits_classifier
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.tracer import component


class HighwayLayer(nn.Module):
    """One layer; components `gate`, `body`, `transform` (H·T) and `carry` (x·(1 − T)).

    Args:
        width: of input and output.
        carry_bias: minus the bias of the transform gate at the start.
    """

    def __init__(self, width: int, carry_bias: float) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        self.body = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -carry_bias)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width] of [batch, width]."""
        t = torch.sigmoid(self.gate(x))
        with component("transform", role="transform"):
            made = torch.relu(self.body(x)) * t
        with component("carry", role="skip"):
            kept = x * (1 - t)
        return made + kept


class Highway(nn.Module):
    """A linear layer to the width of the rest, highway layers `layers.0`, `layers.1`, ..., and a linear head."""

    def __init__(self, hidden: int, layers: int, carry_bias: float) -> None:
        super().__init__()
        self.embed = nn.Linear(PIXELS, hidden)
        self.layers = nn.ModuleList(HighwayLayer(hidden, carry_bias) for _ in range(layers))
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [batch, 10] for pixels [batch, 64] in [0, 1]."""
        x = torch.relu(self.embed(pixels))
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def build(parameters: HighwayParameters) -> WorkloadInstance:
    """Load the digits, make the model. Draws the weights from torch's global random state."""
    model = Highway(parameters.hidden, parameters.layers, parameters.carry_bias)
    return digits_classifier(model, parameters)
