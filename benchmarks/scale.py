"""A model of real size: one traced step of a 12-layer transformer (d = 768, T = 128, about 85 million parameters) against plain.

    python -m benchmarks.scale [--rounds 3] [--batch 1] [--layers 12] [--threads 2] [--cpu]

All parameter scalars are traced. Plain and traced steps take turns under the decomposed kernels; the first traced step, which also
makes the plan, is timed apart. Memory is the resident size at its highest, of plain and of traced steps.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models import warm_up
from benchmarks.paired import live_share, peak_memory, plain_step, ratio, resident, take_turns, traced_step, where


def transformer(layers: int, batch: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Encoder layers as of BERT-base (12 heads, 3,072 hidden, norm first), and what to train them on."""
    layer = nn.TransformerEncoderLayer(768, 12, 3072, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), nn.LayerNorm(768), nn.Linear(768, 100)
    )
    return model, torch.randn(batch, 128, 768), torch.randint(0, 100, (batch * 128,))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu", action="store_true", help="count seconds of the processor, not of the wall")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu else time.perf_counter
    warm_up()
    torch.manual_seed(0)
    model, x, y = transformer(arguments.layers, arguments.batch)

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(x).flatten(0, 1), y)

    plain, traced = plain_step(model, loss), traced_step(model, loss)
    base = resident()
    plain_peak = peak_memory(plain, 2)
    started = clock()
    traced()
    first = clock() - started
    traced_peak = peak_memory(traced, 2)
    seconds = take_turns({"plain": plain, "traced": traced}, arguments.rounds, warm=0, clock=clock)
    step = traced()
    count = sum(p.numel() for p in model.parameters())
    middle = sorted(seconds["plain"])[arguments.rounds // 2]
    print(
        f"{where()}; {arguments.layers} layers, {count / 1e6:.1f} million parameters, batch {arguments.batch} of 128 tokens; "
        f"median of {arguments.rounds} rounds (least–greatest)"
    )
    print(
        f"plain {middle:.2f} s a step; traced / plain {ratio(seconds, 'traced', 'plain')}; first traced step {first:.1f} s; live "
        f"{live_share(step):.4f}"
    )
    print(
        f"resident: model and inputs {base / 2**30:.2f} GiB, plain steps at most {plain_peak / 2**30:.2f}, traced steps "
        f"{traced_peak / 2**30:.2f}: {(traced_peak - plain_peak) / (plain_peak - base):.2f} times above plain's own"
    )


if __name__ == "__main__":
    main()
