"""Trains the runs of a plan, two at a time, and stores their traces in the graph database."""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from gradtrace.service.spec import spec_from_json

from .plan import Plan

PROCESSES = 2


def train(plan: Plan, experiment: str, processes: int = PROCESSES) -> tuple[dict[str, str], float]:
    """Train all runs, each with one thread.

    The store must be open meanwhile (`opened_store()`), so that the embedded server does not stop in between.

    Returns:
        Run id → name of its arm, and the seconds of the processor that all runs took together.
    """
    jobs = [(arm, spec.model_dump_json()) for arm, spec in plan.specs(experiment)]
    arms, busy, started = {}, 0.0, time.monotonic()
    # A process of its own for each run in work: torch's threads do not survive a fork, hence spawn.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_train, text): arm for arm, text in jobs}
        for number, done in enumerate(as_completed(waiting), 1):
            run, seed, loss, seconds = done.result()
            arms[run] = waiting[done]
            busy += seconds
            print(
                f"{number:4d}/{len(jobs)}  {time.monotonic() - started:5.0f} s  {waiting[done]}, seed {seed}: "
                f"held-out loss {loss:.3f}, {seconds:.0f} s of the processor",
                file=sys.stderr,
                flush=True,
            )
    return arms, busy


def _train(text: str) -> tuple[str, int, float, float]:
    """One run, in a process of the pool."""
    import torch

    from gradtrace.service.runner import run
    from gradtrace.service.store import Neo4jSink, connect

    torch.set_num_threads(1)
    started = time.process_time()
    spec = spec_from_json(text)
    with connect(progress=False) as store, Neo4jSink.on(store) as sink:
        result = run(spec, sink)
    if result.status != "FINISHED":
        raise RuntimeError(f"Run {result.run} is {result.status}: {result.reason}.")
    return result.run, spec.parameters.seed, result.after["loss"], time.process_time() - started
