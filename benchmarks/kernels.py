"""The (max, ×) product with argmax against PyTorch's matrix product of the same factors.

    python -m benchmarks.kernels [--rounds 9] [--threads 1,2]

`maxtimes` and `torch.mm` take turns; ratios are medians of those within a round, with the least and the greatest. The target is 2.6
in one thread at (128, 512, 512) and (1024, 512, 512): where a product of matrices takes one fused multiply-add, a maximum
with its place takes a multiplication, a comparison and two choices.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from benchmarks.paired import ratio, take_turns, where
from gradtrace.tracer.kernels.maxtimes import maxtimes

SHAPES = ((32, 256, 784), (128, 512, 512), (1024, 512, 512), (1024, 1024, 256), (20, 20, 20))
"""(K, M, N): the weights of an MLP's first layer, the two of the target, an LSTM's gates, a 20-wide layer."""
TARGET = {(128, 512, 512), (1024, 512, 512)}


def repeated(call: Callable[[], object], products: int) -> Callable[[], None]:
    """As many calls as make the clock's grain and the call itself small beside the work."""
    times = max(1, 30_000_000 // products)

    def side() -> None:
        for _ in range(times):
            call()

    return side


def measure(shape: tuple[int, int, int], dtype: torch.dtype, threads: int, rounds: int) -> str:
    """One line of the table."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    depth, rows, columns = shape
    a, b = torch.randn(depth, rows, dtype=dtype), torch.randn(depth, columns, dtype=dtype)
    products = depth * rows * columns
    seconds = take_turns(
        {
            "mm": repeated(lambda: torch.mm(a.t(), b), products),
            "maxtimes": repeated(lambda: maxtimes(a, b), products),
        },
        rounds,
    )
    times = max(1, 30_000_000 // products)
    speed = {name: times * products / min(found) / 1e9 for name, found in seconds.items()}
    target = "≤ 2.6" if shape in TARGET and threads == 1 else "–"
    return (
        f"| {shape} | {str(dtype).removeprefix('torch.')} | {threads} | {ratio(seconds, 'maxtimes', 'mm')} | {target} | "
        f"{speed['maxtimes']:.2f} | {speed['mm']:.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", default="1,2")
    arguments = parser.parse_args()
    print(f"{where()}; median of {arguments.rounds} rounds (least–greatest)\n")
    print("| (K, M, N) | dtype | threads | maxtimes / mm | target | 10⁹ products a second, at best | of mm |")
    print("|---" * 7 + "|")
    for threads in map(int, arguments.threads.split(",")):
        for dtype in (torch.float32, torch.float64):
            for shape in SHAPES:
                print(measure(shape, dtype, threads, arguments.rounds), flush=True)


if __name__ == "__main__":
    main()
