"""`resnet`: a residual network on the handwritten digits (He et al. 2016, "Deep Residual Learning for Image
Recognition", and "Identity Mappings in Deep Residual Networks", whose order of operators this is).

Without batch norm, which would make every example's trace depend on the rest of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import ResnetParameters
from gradtrace.service.workloads.digits import CLASSES, SIDE, digits_classifier
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.tracer import tap


class Branch(nn.Module):
    """ReLU and convolution, twice; components `conv1` and `conv2`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] of the same."""
        return self.conv2(torch.relu(self.conv1(torch.relu(x))))


class Block(nn.Module):
    """x + branch(x); components `skip` and `branch`.

    Args:
        channels: of input and output.
        branch_scale: factor on the weights of the second convolution at the start.
    """

    def __init__(self, channels: int, branch_scale: float) -> None:
        super().__init__()
        self.branch = Branch(channels)
        with torch.no_grad():
            for parameter in self.branch.conv2.parameters():
                parameter.mul_(branch_scale)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width] of the same."""
        return tap(x, "skip", role="skip") + self.branch(x)


class Resnet(nn.Module):
    """A convolution, residual blocks, a linear head; components `stem`, `blocks.0`, ..., `head`."""

    def __init__(self, channels: int, blocks: int, branch_scale: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(channels, branch_scale) for _ in range(blocks))
        self.head = nn.Linear(channels * (SIDE // 2) ** 2, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [batch, 10] for pixels [batch, 64] in [0, 1]."""
        x = self.stem(pixels.view(-1, 1, SIDE, SIDE))
        for block in self.blocks:
            x = block(x)
        return self.head(torch.relu(x).flatten(1))


def build(parameters: ResnetParameters) -> WorkloadInstance:
    """Load the digits, make the model. Draws the weights from torch's global random state."""
    model = Resnet(parameters.channels, parameters.blocks, parameters.branch_scale)
    return digits_classifier(model, parameters)
