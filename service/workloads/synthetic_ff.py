"""`synthetic-ff`: a feed-forward net of any depth, every layer 20 wide, on random data: what tracing costs by depth.

The weights start so that the variance of activations and gradients is the same in every layer (He et al. 2015,
"Delving Deep into Rectifiers"); with PyTorch's own start most gradients of a deep net are exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import SyntheticFfParameters
from gradtrace.service.workloads.generated import PROBE_SIZE, divided, generator
from gradtrace.service.workloads.instance import WorkloadInstance, classifier

WIDTH = 20


class SyntheticFf(nn.Module):
    """Linear layers with ReLU between them; components `layers.0`, `layers.1`, ..."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        made = [nn.Linear(WIDTH, WIDTH) for _ in range(layers)]
        for layer in made:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(made)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, 20] for numbers [batch, 20]."""
        for at, layer in enumerate(self.layers):
            x = layer(torch.relu(x) if at else x)
        return x


def build(parameters: SyntheticFfParameters) -> WorkloadInstance:
    """Random inputs, and as class of each the largest of 20 random linear functions of it."""
    random = generator(parameters)
    inputs = torch.randn(parameters.examples + parameters.held_out, WIDTH, generator=random)
    targets = (inputs @ torch.randn(WIDTH, WIDTH, generator=random)).argmax(1)
    training, held_out = divided(inputs, targets, parameters)
    return classifier(
        SyntheticFf(parameters.layers), parameters.lr, training, held_out, probe_size=PROBE_SIZE, notes=()
    )
