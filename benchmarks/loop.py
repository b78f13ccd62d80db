"""What leaving it on costs: training with every n-th step traced and stored against plain training.

    python -m benchmarks.loop [--rounds 5] [--steps 100] [--every 10] [--threads 2] [--workload char-lstm,transformer]

Both sides train the workload from its start for `steps` optimizer steps and take turns: plain PyTorch without gradtrace in the
loop, and the product's own loop, whose traced steps go to a fresh embedded Neo4j in the background. `stored` is the time until
training is over, `flushed` until the store has everything besides. Untraced steps run PyTorch's own kernels, traced ones
the decomposed kernels that tracing needs. The database runs on the same cores. Target: 1.15.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.paired import Side, Spread, where
from gradtrace.service.local import ensure_server, in_use, stop_server
from gradtrace.service.segments import Training, build
from gradtrace.service.spec import RunSpec, new_run_id, spec_from_text
from gradtrace.service.store import Neo4jSink, Store, connect
from gradtrace.tracer.sinks import MemorySink


def plain(spec: RunSpec, steps: int) -> float:
    """Seconds of `steps` optimizer steps without gradtrace in the loop."""
    instance = build(spec)
    orders = [instance.batches.order(epoch) for epoch in range(-(-steps // len(instance.batches)))]
    started = time.perf_counter()
    for step in range(steps):
        epoch, index = divmod(step, len(instance.batches))
        instance.optimizer.zero_grad(set_to_none=True)
        loss = instance.loss(instance.batches.batch(epoch, index, orders[epoch]))
        loss.backward()
        instance.optimizer.step()
        if instance.scheduler is not None:
            instance.scheduler.step()
        float(loss.detach())
    return time.perf_counter() - started


def traced(spec: RunSpec, steps: int, store: Store | None) -> tuple[float, float]:
    """(Seconds until trained, seconds until stored too) of the same with every n-th step traced and stored (or kept)."""
    sink = Neo4jSink.on(store) if store is not None else MemorySink()
    try:
        training = Training(spec, sink, new_run_id(spec.workload))
        sink.open_run(training.record)
        started = time.perf_counter()
        training.advance(stop=lambda: training.done >= steps)
        trained = time.perf_counter() - started
        if isinstance(sink, Neo4jSink):
            sink.flush()
        return trained, time.perf_counter() - started
    finally:
        sink.close()


def measure(spec: RunSpec, steps: int, rounds: int, store: Store) -> str:
    """One line of the table."""
    sides: dict[str, Side] = {
        "plain": lambda: plain(spec, steps),
        "kept": lambda: traced(spec, steps, None)[0],
        "stored": lambda: traced(spec, steps, store),
    }
    found: dict[str, list[float]] = {"plain": [], "kept": [], "stored": [], "flushed": []}
    for number in range(rounds + 1):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            seconds = sides[name]()
            if number == 0:
                continue  # to warm up
            if isinstance(seconds, tuple):
                found["stored"].append(seconds[0])
                found["flushed"].append(seconds[1])
            else:
                assert isinstance(seconds, float)  # the other sides give one number
                found[name].append(seconds)
    ratios = {
        name: Spread.of([a / b for a, b in zip(found[name], found["plain"], strict=True)])
        for name in ("kept", "stored", "flushed")
    }
    middle = 1e3 * Spread.of(found["plain"]).middle / steps
    return f"| {spec.workload} | {middle:.1f} | {ratios['kept']} | {ratios['stored']} | ≤ 1.15 | {ratios['flushed'].middle:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workload", default="char-lstm,transformer")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"{where()}; {arguments.steps} steps, every {arguments.every}th traced; median of {arguments.rounds} rounds "
        "(least–greatest)\n"
    )
    print("| workload | plain, ms a step | traced, kept in memory | traced and stored | target | until flushed |")
    print("|---" * 6 + "|")
    with tempfile.TemporaryDirectory(prefix="gradtrace-bench-") as folder:
        data = Path(folder)
        try:
            info = ensure_server(data)
            with in_use(info), connect(info.uri, info.user, info.password) as store:
                for workload in arguments.workload.split(","):
                    spec = spec_from_text(workload, {}, every=arguments.every)
                    print(measure(spec, arguments.steps, arguments.rounds, store), flush=True)
        finally:
            stop_server(data)


if __name__ == "__main__":
    main()
