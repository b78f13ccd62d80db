"""The memory of a Neural Turing Machine and the heads that read and write it (Graves, Wayne & Danihelka 2014, "Neural
Turing Machines"). Numbers in brackets below are the paper's equations.

A head's regions are components: `addressing.content`, `addressing.gate`, `addressing.shift`, `addressing.sharpen`, and
`read` or `erase` and `add`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradtrace.tracer import component

SHIFTS = (-1, 0, 1)
TINY = 1e-6


class Head(nn.Module):
    """Makes weightings over the memory's locations out of the controller's state.

    Args:
        hidden: width of the controller's state.
        cell: width of a location.
    """

    def __init__(self, hidden: int, cell: int) -> None:
        super().__init__()
        self.key = nn.Linear(hidden, cell)
        self.strength = nn.Linear(hidden, 1)
        self.gate = nn.Linear(hidden, 1)
        self.shift = nn.Linear(hidden, len(SHIFTS))
        self.sharpness = nn.Linear(hidden, 1)

    def address(self, hidden: Tensor, memory: Tensor, previous: Tensor) -> Tensor:
        """A weighting [batch, slots].

        Args:
            hidden: the controller's state [batch, hidden].
            memory: [batch, slots, cell].
            previous: this head's weighting one step ago [batch, slots].
        """
        with component("addressing.content"):
            key = torch.tanh(self.key(hidden))
            # cosine similarity (6), then a softmax (5)
            length = memory.norm(dim=2) * key.norm(dim=1, keepdim=True) + TINY
            likeness = torch.bmm(memory, key[:, :, None])[:, :, 0] / length
            weights = torch.softmax(nn.functional.softplus(self.strength(hidden)) * likeness, 1)
        with component("addressing.gate"):  # (7)
            gate = torch.sigmoid(self.gate(hidden))
            weights = gate * weights + (1 - gate) * previous
        with component("addressing.shift"):  # (8): a circular convolution
            shift = torch.softmax(self.shift(hidden), 1)
            turned = torch.stack([weights.roll(by, 1) for by in SHIFTS], 1)
            weights = torch.bmm(shift[:, None], turned)[:, 0]
        with component("addressing.sharpen"):  # (9)
            power = (weights + TINY) ** (1 + nn.functional.softplus(self.sharpness(hidden)))
            return power / power.sum(1, keepdim=True)


class ReadHead(Head):
    """Reads a mixture of the locations."""

    def forward(self, hidden: Tensor, memory: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """What is read [batch, cell], and the weighting [batch, slots]."""
        weights = self.address(hidden, memory, previous)
        with component("read"):  # (2)
            return torch.bmm(weights[:, None], memory)[:, 0], weights


class WriteHead(Head):
    """Erases a part of each location and adds to it."""

    def __init__(self, hidden: int, cell: int) -> None:
        super().__init__(hidden, cell)
        self.eraser = nn.Linear(hidden, cell)
        self.content = nn.Linear(hidden, cell)

    def forward(self, hidden: Tensor, memory: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """The memory after writing [batch, slots, cell], and the weighting [batch, slots]."""
        weights = self.address(hidden, memory, previous)
        with component("erase"):  # (3)
            eraser = torch.sigmoid(self.eraser(hidden))
            memory = memory * (1 - weights[:, :, None] * eraser[:, None])
        with component("add"):  # (4)
            content = torch.tanh(self.content(hidden))
            return memory + weights[:, :, None] * content[:, None], weights
