"""`digits-cnn`: a convolutional network on the handwritten digits (LeCun et al. 1998, "Gradient-Based Learning Applied to
Document Recognition"), with ReLU and max-pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import DigitsCnnParameters
from gradtrace.service.workloads.digits import CLASSES, SIDE, digits_classifier
from gradtrace.service.workloads.instance import WorkloadInstance


class DigitsCnn(nn.Module):
    """Convolution, pooling, convolution, pooling, linear; components `conv1`, `pool1`, `conv2`, `pool2`, `head`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.pool2 = nn.MaxPool2d(2)
        self.head = nn.Linear(2 * channels * (SIDE // 4) ** 2, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [batch, 10] for pixels [batch, 64] in [0, 1]."""
        x = pixels.view(-1, 1, SIDE, SIDE)
        x = self.pool1(torch.relu(self.conv1(x)))
        x = self.pool2(torch.relu(self.conv2(x)))
        return self.head(x.flatten(1))


def build(parameters: DigitsCnnParameters) -> WorkloadInstance:
    """Load the digits, make the model. Draws the weights from torch's global random state."""
    return digits_classifier(DigitsCnn(parameters.channels), parameters)
