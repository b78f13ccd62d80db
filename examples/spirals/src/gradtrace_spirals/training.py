"""The model and the data of `spirals`. Imported only when a run is trained."""

import math

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.instance import Batches, WorkloadInstance, classifier
from gradtrace.tracer import tap
from gradtrace_spirals import SpiralsParameters

HELD_OUT = 0.25
PROBE_SIZE = 64


class Block(nn.Module):
    """x + tanh(Wx + b): the sum's first operand is the component `skip`, the rest is the component `inner`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width] of [batch, width]."""
        return tap(x, "skip") + self.inner(x)


class Spirals(nn.Module):
    """Components `entry`, `blocks.0` (with `blocks.0.skip` and `blocks.0.inner`), ... and `head`."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.entry = nn.Linear(2, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, 2)

    def forward(self, points: Tensor) -> Tensor:
        """Logits [batch, 2] for points [batch, 2]."""
        x = self.entry(points)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def build(parameters: SpiralsParameters) -> WorkloadInstance:
    """Make the model and the data. The weights come from torch's global random state, which is seeded by then."""
    points, spiral = _spirals(parameters.points, parameters.turns)
    training = len(points) - int(HELD_OUT * len(points))
    return classifier(
        Spirals(parameters.depth, parameters.width),
        parameters.lr,
        Batches(points[:training], spiral[:training], parameters.batch_size, parameters.seed),
        (points[training:], spiral[training:]),
        probe_size=PROBE_SIZE,
        notes=(f"Drew {len(points):,} points of two spirals; {len(points) - training:,} of them are held out.",),
    )


def _spirals(count: int, turns: float) -> tuple[Tensor, Tensor]:
    """Points [count, 2] and the spiral, 0 or 1, that each is of; the same for every seed."""
    generator = torch.Generator().manual_seed(0)
    spiral = torch.arange(count) % 2
    radius = torch.rand(count, generator=generator).sqrt()
    angle = 2 * math.pi * turns * radius + math.pi * spiral
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    points += 0.02 * torch.randn(count, 2, generator=generator)
    order = torch.randperm(count, generator=generator)
    return points[order] * 2, spiral[order]
