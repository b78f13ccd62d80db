"""How the cost of tracing grows with depth: 20-wide nets of 10 to 3,000 layers, and the same nets under two other tools.

    python -m benchmarks.scaling [--rounds 9] [--layers 10,30,100] [--threads 2] [--plot benchmarks/scaling.svg]
                                [--cpu] [--no-peers]

Layers of 20 with tanh between, orthogonal weights and small inputs, so that activations and gradients keep their variance from
end to end and every parameter scalar has a trace (`live`; PyTorch's own initialisation lets most gradients vanish). All sides
take turns; ratios are medians of those within a round, with the least and the greatest.

plain        forward + backward
gradtrace    forward + backward + trace of every parameter scalar; `spelt` with every row and path looked at
BackPACK     forward + backward with the gradient of each example apart (BatchGrad, its cheapest extension)
TorchLens    forward, with every operator's output logged, + backward

Neither of the others follows a gradient from scalar to scalar; they are what one would have put up with so far. They are left
out (–) beyond the depth where a round would take too long. `pip install 'gradtrace[bench]'` brings them, and matplotlib for
the plot.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.models import memory, warm_up
from benchmarks.paired import (
    Side,
    Spread,
    live_share,
    plain_step,
    ratio,
    spell,
    take_turns,
    traced_step,
    where,
)
from benchmarks.peers import PEERS, Peer, able, deep

LAYERS = (10, 30, 100, 300, 1000, 3000)
TARGET = 1.6


@dataclass(frozen=True)
class Row:
    """What was measured at one depth: milliseconds by side, ratios to plain, and about the trace."""

    layers: int
    milliseconds: dict[str, float]
    ratios: dict[str, Spread]
    memory: float
    live: float
    closed: int
    probed: int


def measure(layers: int, rounds: int, clock: Callable[[], float], peers: Sequence[str]) -> Row:
    """One depth."""
    torch.manual_seed(0)
    model, x, y = deep(layers)

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(x), y)

    below, above = memory(model, loss)
    traced = traced_step(model, loss)
    sides: dict[str, Side] = {
        "plain": plain_step(model, loss),
        "gradtrace": traced,
        "spelt": lambda: spell(traced()),
    }
    with ExitStack() as stack:
        sides |= {name: stack.enter_context(Peer(name, layers)) for name in peers if able(name, layers)}
        seconds = take_turns(sides, rounds, warm=2, clock=clock)
    step = traced()
    trace = step.traces["training"]
    return Row(
        layers,
        {name: 1e3 * Spread.of(found).middle for name, found in seconds.items()},
        {name: ratio(seconds, name, "plain") for name in sides},
        above / max(below, 1),
        live_share(step),
        trace.closed,
        trace.probed,
    )


def exponent(rows: list[Row], side: str) -> float:
    """Slope of log time over log layers, by least squares, from 100 layers on (below, a step's fixed cost shows)."""
    points = [
        (math.log(r.layers), math.log(r.milliseconds[side])) for r in rows if r.layers >= 100 and side in r.milliseconds
    ]
    x, y = (sum(column) / len(points) for column in zip(*points, strict=True))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def plot(rows: list[Row], path: Path) -> None:
    """Time over depth as an SVG file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "gradtrace", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for side in ("plain", "gradtrace", *PEERS):
        points = [(r.layers, r.milliseconds[side]) for r in rows if side in r.milliseconds]
        if points:
            axes.loglog(*zip(*points, strict=True), marker="o", label=side)
    axes.set_xlabel("layers of 20 units, batch 32")
    axes.set_ylabel("forward + backward (+ trace), ms")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", default=",".join(map(str, LAYERS)), help="depths, by commas")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu", action="store_true", help="count seconds of the processor, not of the wall")
    parser.add_argument("--no-peers", action="store_true", help="leave the other tools out")
    parser.add_argument("--plot", type=Path, help="also draw the plot into this SVG file (needs matplotlib)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warm_up()
    print(f"{where()}; median of {arguments.rounds} rounds (least–greatest); target ≤ {TARGET}, exponent ≤ 1.05\n")
    print(
        "| layers | plain, ms | gradtrace / plain | spelt | "
        + " | ".join(PEERS)
        + " | memory (≤ 2.5) | live | closed | probed |"
    )
    print("|---" * (8 + len(PEERS)) + "|")
    rows = []
    for layers in map(int, arguments.layers.split(",")):
        clock = time.process_time if arguments.cpu else time.perf_counter
        row = measure(layers, arguments.rounds, clock, () if arguments.no_peers else tuple(PEERS))
        rows.append(row)
        others = " | ".join(f"{row.ratios[name].middle:.1f}" if name in row.ratios else "–" for name in PEERS)
        print(
            f"| {layers:,} | {row.milliseconds['plain']:.2f} | {row.ratios['gradtrace']} | {row.ratios['spelt'].middle:.2f} | "
            f"{others} | {row.memory:.2f} | {row.live:.4f} | {row.closed:,} | {row.probed} |",
            flush=True,
        )
    if sum(r.layers >= 100 for r in rows) > 1:
        fitted = [f"{side} {exponent(rows, side):.2f}" for side in ("plain", "gradtrace")]
        print(f"\nexponent of time in layers, from 100 layers on: {', '.join(fitted)}")
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
