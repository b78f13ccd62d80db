"""A step of the 20-wide nets under other tools, each in a process of its own: some of them patch torch for good.

    python -m benchmarks.peers TorchLens 100

takes one step for every line it reads, and answers with a line. `Peer` is the other end.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

Step = Callable[[], object]


def deep(layers: int) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """Layers of 20 with tanh between: (model, inputs [32, 20], classes [32]); activations and gradients keep their variance."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        linear = nn.Linear(20, 20)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules, nn.Linear(20, 5)), torch.randn(32, 20) * 0.1, torch.randint(0, 5, (32,))


def _backpack(layers: int) -> Step:
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    model, x, y = deep(layers)
    model, loss = extend(model), extend(nn.CrossEntropyLoss())

    def step() -> None:
        model.zero_grad(set_to_none=True)
        value = loss(model(x), y)
        with backpack(BatchGrad()):
            value.backward()

    return step


def _torchlens(layers: int) -> Step:
    import torchlens

    model, x, y = deep(layers)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        log = torchlens.trace(model, x, save_mode="reference")
        F.cross_entropy(log[-1].out, y).backward()

    return step


PEERS: dict[str, tuple[str, int, Callable[[int], Step]]] = {
    "BackPACK": ("backpack", 1000, _backpack),
    "TorchLens": ("torchlens", 100, _torchlens),
}
"""By name: module, the greatest depth at which a round ends in reasonable time, and how to make a step."""


class Peer:
    """A process that takes one tool's steps when told to."""

    def __init__(self, name: str, layers: int) -> None:
        command = [sys.executable, "-m", "benchmarks.peers", name, str(layers), str(torch.get_num_threads())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self) -> None:
        """Have it take one step."""
        assert self._process.stdin is not None and self._process.stdout is not None  # pipes were asked for
        self._process.stdin.write("\n")
        if self._process.stdout.readline() != "done\n":
            raise RuntimeError(f"the process of {self._process.args} ended with {self._process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def able(name: str, layers: int) -> bool:
    """Whether a peer is installed and takes nets of this depth."""
    module, deepest, _ = PEERS[name]
    return layers <= deepest and importlib.util.find_spec(module) is not None


def main() -> None:
    """Take steps on demand."""
    name, layers, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    step = PEERS[name][2](layers)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a tool prints is no answer
    for _ in sys.stdin:
        step()
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
