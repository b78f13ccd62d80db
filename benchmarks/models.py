"""What tracing costs on models of several kinds: forward + backward + trace against plain forward + backward.

    python -m benchmarks.models [--rounds 9] [--only lstm] [--threads 2] [--cpu]

All sides run the decomposed kernels that tracing needs and take turns; ratios are medians of those within a round, with the least
and the greatest. A traced step works out everything of all parameter scalars; rows are spelt when someone looks, as a sink does,
and `spelt` is a traced step with every row and path looked at. `both` is a step traced in both modes over one in greedy alone.
`fused` is a plain step under PyTorch's own choice of kernels over one under the decomposed ones. `memory` is what traced steps,
once warm, take above plain ones, over what plain ones take above nothing (resident size). `live` is the share of parameter
scalars that have a trace; `closed` and `probed` count operators by rule. On a loaded machine `--cpu` says more: it counts
seconds of the processor, which with one thread are what wall seconds would be if nothing else ran.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.paired import (
    Loss,
    fused_step,
    live_share,
    peak_memory,
    plain_step,
    ratio,
    resident,
    spell,
    take_turns,
    traced_step,
    where,
)


@dataclass(frozen=True)
class Case:
    """One row: a model with the loss of its batch, and the ratio that is aimed at (None: none is)."""

    name: str
    make: Callable[[], tuple[nn.Module, Loss]]
    target: float | None = None


def mlp() -> tuple[nn.Module, Loss]:
    """784-256-256-10, batch 32."""
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    x, y = torch.randn(32, 784), torch.randint(0, 10, (32,))
    return model, lambda: F.cross_entropy(model(x), y)


class Language(nn.Module):
    """Two LSTM layers of 256 and a head, read at the last step or at every one."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(256, 256, 2)
        self.head = nn.Linear(256, 50)
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[time, batch, 256] to [batch or time·batch, 50]."""
        y = self.lstm(x)[0]
        return self.head(y[-1] if self.last else y.flatten(0, 1))


def lstm(last: bool) -> tuple[nn.Module, Loss]:
    """T = 32, batch 32."""
    model = Language(last)
    x, y = torch.randn(32, 32, 256), torch.randint(0, 50, (32,) if last else (32 * 32,))
    return model, lambda: F.cross_entropy(model(x), y)


def transformer() -> tuple[nn.Module, Loss]:
    """One encoder layer (d = 256, 8 heads, 1,024 hidden, norm first) and a head on every place; T = 128, batch 8."""
    model = nn.Sequential(
        nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True, norm_first=True), nn.Linear(256, 50)
    )
    x, y = torch.randn(8, 128, 256), torch.randint(0, 50, (8 * 128,))
    return model, lambda: F.cross_entropy(model(x).flatten(0, 1), y)


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, h, w] to [batch, out, h/stride, w/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet() -> tuple[nn.Module, Loss]:
    """ResNet-18 as published (7×7 stem, pooling, 8 blocks, 11 million parameters) on 32×32 images, batch 16."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, out, stride), Block(out, out, 1)]
        channels = out
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    x, y = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))
    return model, lambda: F.cross_entropy(model(x), y)


CASES = [
    Case("MLP 784-256-256-10", mlp, 2.0),
    Case("LSTM 2×256, loss at the last step", lambda: lstm(True), 2.0),
    Case("LSTM 2×256, loss at every step", lambda: lstm(False), 2.5),
    Case("transformer block", transformer, 2.6),
    Case("ResNet-18, 32×32, batch 16", resnet),
]


def warm_up() -> None:
    """Load the compiled kernels, so that no case is charged for them in time or memory."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    step = traced_step(
        model, lambda: F.cross_entropy(model(torch.ones(2, 3)), torch.tensor([0, 1])), ("greedy", "maxprod")
    )
    spell(step())


def memory(model: nn.Module, loss: Loss) -> tuple[float, float]:
    """(bytes of plain steps above the model's, the same for traced steps above plain ones), at their peaks."""
    base = resident()
    plain = peak_memory(plain_step(model, loss))
    traced = traced_step(model, loss)
    traced()
    return plain - base, peak_memory(traced) - plain


def measure(case: Case, rounds: int, clock: Callable[[], float]) -> str:
    """One line of the table."""
    torch.manual_seed(0)
    model, loss = case.make()
    below, above = memory(model, loss)
    greedy, both = traced_step(model, loss), traced_step(model, loss, ("greedy", "maxprod"))
    seconds = take_turns(
        {
            "plain": plain_step(model, loss),
            "greedy": greedy,
            "spelt": lambda: spell(greedy()),
            "both": both,
            "fused": fused_step(model, loss),
        },
        rounds,
        clock=clock,
    )
    step = greedy()
    trace = step.traces["training"]
    target = "–" if case.target is None else f"≤ {case.target}"
    plain = 1e3 * ratio({**seconds, "one": [1.0] * rounds}, "plain", "one").middle
    return (
        f"| {case.name} | {plain:.1f} | {ratio(seconds, 'greedy', 'plain')} | {target} | "
        f"{ratio(seconds, 'spelt', 'plain').middle:.2f} | {ratio(seconds, 'both', 'greedy')} | "
        f"{ratio(seconds, 'fused', 'plain').middle:.2f} | {below / 2**20:.0f} | {above / max(below, 1):.2f} | "
        f"{live_share(step):.4f} | {trace.closed} | {trace.probed} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu", action="store_true", help="count seconds of the processor, not of the wall")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    torch.set_num_threads(arguments.threads)
    warm_up()
    print(f"{where()}; median of {arguments.rounds} rounds (least–greatest)\n")
    print(
        "| model | plain, ms | traced / plain | target | spelt / plain | both / greedy (≤ 1.8) | fused / plain | plain, MiB | "
        "memory (≤ 2.5) | live | closed | probed |"
    )
    print("|---" * 12 + "|")
    for case in CASES:
        if arguments.only.lower() in case.name.lower():
            print(measure(case, arguments.rounds, clock), flush=True)


if __name__ == "__main__":
    main()
