"""What tracing costs: forward + backward + trace against plain forward + backward, under the same kernels.

    python -m benchmarks.tracer [--rounds 9] [--only lstm]

Plain and traced steps take turns, and change who goes first from round to round; the ratio is the median of those within a
round, with the least and the greatest. A traced step makes all rows that a sink is given (`step.trace`), over all parameter
scalars. Plain steps run the decomposed kernels that tracing needs; `fused` is a plain step with PyTorch's own choice of
kernels against that. Live: parameter scalars with a trace. Closed, probed: operators traced by closed rule and by probing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from gradtrace.tracer import Tracer
from gradtrace.tracer.recording import traceable_kernels

Loss = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One row: a model and the loss of its batch."""

    name: str
    make: Callable[[], tuple[nn.Module, Loss]]
    layers: int | None = None


def deep(layers: int) -> tuple[nn.Module, Loss]:
    """Layers of 20, started so that activations and gradients keep their variance (orthogonal matrices, tanh near 0)."""
    modules: list[nn.Module] = []
    for _ in range(layers):
        linear = nn.Linear(20, 20)
        nn.init.orthogonal_(linear.weight)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.Tanh()]
    model = nn.Sequential(*modules, nn.Linear(20, 5))
    x, y = torch.randn(32, 20) * 0.1, torch.randint(0, 5, (32,))
    return model, lambda: F.cross_entropy(model(x), y)


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


CASES = [
    *(Case(f"20-wide net, {n} layers", lambda n=n: deep(n), n) for n in (10, 100, 1000)),
    Case("MLP 784-256-256-10", mlp),
    Case("LSTM 2x256, loss at the last step", lambda: lstm(True)),
    Case("LSTM 2x256, loss at every step", lambda: lstm(False)),
]


def seconds(step: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(case: Case, rounds: int) -> tuple[str, float]:
    """(one line of the table, median seconds of a traced step)."""
    torch.manual_seed(0)
    model, loss = case.make()
    tracer = Tracer(model, every=1)
    last = []

    def plain() -> None:
        model.zero_grad(set_to_none=True)
        with traceable_kernels():
            loss().backward()

    def fused() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    def traced() -> None:
        model.zero_grad(set_to_none=True)
        with tracer.step() as step:
            step.backward(loss())
        last[:] = [step]

    sides = [plain, traced, fused]
    for side in sides * 3:
        side()
    times: dict[Callable[[], None], list[float]] = {side: [] for side in sides}
    for at in range(rounds):
        for side in sides if at % 2 else sides[::-1]:
            times[side].append(seconds(side))
    ratios = [t / p for t, p in zip(times[traced], times[plain], strict=True)]
    quicker = statistics.median(f / p for f, p in zip(times[fused], times[plain], strict=True))
    trace = last[0].traces["training"]
    rows = last[0].trace.traces[0].parameters
    live = sum(r.traffic for r in rows) / sum(math.prod(r.shape) for r in rows)
    traced_time = statistics.median(times[traced])
    return (
        f"{case.name:34} {statistics.median(times[plain]) * 1e3:9.2f} {traced_time * 1e3:10.2f} "
        f"{statistics.median(ratios):7.2f} {min(ratios):6.2f}-{max(ratios):<6.2f} {quicker:6.2f} {live:7.4f} "
        f"{trace.closed:7} {trace.probed:7}",
        traced_time,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, median of {arguments.rounds} rounds")
    print(
        f"{'':34} {'plain ms':>9} {'traced ms':>10} {'ratio':>7} {'least-greatest':>13} {'fused':>6} {'live':>7} "
        f"{'closed':>7} {'probed':>7}"
    )
    points = []
    for case in CASES:
        if arguments.only in case.name:
            line, traced = measure(case, arguments.rounds)
            print(line, flush=True)
            if case.layers is not None:
                points.append((math.log(case.layers), math.log(traced)))
    if len(points) > 2:
        (x0, y0), (x1, y1) = points[1], points[-1]
        print(f"exponent of traced time in layers, from 100 to 1,000: {(y1 - y0) / (x1 - x0):.2f}")


if __name__ == "__main__":
    main()
