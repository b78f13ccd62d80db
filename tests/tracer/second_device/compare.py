"""Traces models on the CPU and on the second device, and prints in what they differ.

python -m tests.tracer.second_device.compare LIBRARY
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtrace.tracer import trace
from tests.tracer.second_device.build import NAME, register
from tests.tracer.test_cuda import Net

MODES = ("greedy", "maxprod")
CLASSES = 7


class Sequences(nn.Module):
    """Predicts each token from those before it, through some module."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(CLASSES, 8), body, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        made = self.body(self.embed(x))
        read = self.head(made[0] if isinstance(made, tuple) else made)
        return F.cross_entropy(read[:, :-1].flatten(0, 1), x[:, 1:].flatten())


class Images(nn.Module):
    """Convolutions, norms and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2, groups=2)),
            *(nn.GroupNorm(2, 4), nn.GELU(), nn.ConvTranspose2d(4, 2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.cross_entropy(self.body(x), torch.arange(len(x), device=x.device) % 2)


def tokens() -> Tensor:
    return torch.randint(CLASSES, (2, 6))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "net": (Net, lambda: torch.randint(7, (2, 4))),
    "lstm": (lambda: Sequences(nn.LSTM(8, 5, batch_first=True), 5), tokens),
    "lstm, projected": (lambda: Sequences(nn.LSTM(8, 5, proj_size=3, bias=False, batch_first=True), 3), tokens),
    "gru": (lambda: Sequences(nn.GRU(8, 5, 2, bidirectional=True, batch_first=True), 10), tokens),
    "rnn": (lambda: Sequences(nn.RNN(8, 5, batch_first=True), 5), tokens),
    "transformer": (lambda: Sequences(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), 8), tokens),
    "rms norm": (lambda: Sequences(nn.Sequential(nn.Linear(8, 5), nn.RMSNorm(5), nn.Tanh()), 5), tokens),
    "images": (Images, lambda: torch.randn(4, 1, 10, 10, dtype=torch.float64)),
}


def differences(build: Callable[[], nn.Module], data: Callable[[], Tensor]) -> list[str]:
    """In what the traces of a model on the two devices differ."""
    torch.manual_seed(0)
    here = build().double()
    there = copy.deepcopy(here).to(NAME)
    x = data()
    y = x.to(NAME)
    a, b = trace(lambda: here(x), here, mode=MODES), trace(lambda: there(y), there, mode=MODES)
    found = []
    for mode in MODES:
        pairs = list(zip(a.parameters(mode), b.parameters(mode), strict=True))
        most = max(p.mass for p, _ in pairs)
        for p, q in pairs:
            alike = (p.parameter, p.traffic, p.dead) == (q.parameter, q.traffic, q.dead)
            if not alike or abs(p.mass - q.mass) > 1e-9 * most:
                found.append(f"{mode} {p.parameter}: {p.traffic}, {p.mass} is not {q.traffic}, {q.mass}")
        ours, theirs = ({c.component: c.share for c in t.components(mode)} for t in (a, b))
        if ours.keys() != theirs.keys():
            found.append(f"{mode}: components {sorted(ours.keys() ^ theirs.keys())} are on one device only")
        found += [
            f"{mode} {name}: share {ours[name]} is not {theirs[name]}"
            for name in sorted(ours.keys() & theirs.keys())
            if abs(ours[name] - theirs[name]) > 1e-9
        ]
    return found


def main() -> None:
    """Compare every model."""
    register(Path(sys.argv[1]))
    for name, (build, data) in MODELS.items():
        found = differences(build, data)
        print(f"{name}: {'; '.join(found) or 'the same'}", flush=True)


if __name__ == "__main__":
    main()
