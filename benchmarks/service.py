"""What a worker costs against the same run in process, and how soon a killed run goes on.

    python -m benchmarks.service [--rounds 5] [--epochs 5]

Servers are fresh ones of this benchmark. Both sides are warm (kernels compiled, torch imported, one run before those that
count) and take turns: the same char-lstm run, traced at every 10th step and stored, once by `run` in a process of its own,
once submitted to a worker and timed from the submission until the store says FINISHED. Then runs are killed in the middle:
the process that trains (-9), and the whole worker (-9) with another one standing by.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from gradtrace.service.jobs.queue import enqueue
from gradtrace.service.local import ensure_server, in_use, stop_server
from gradtrace.service.local.valkey import start_valkey, stop_valkey
from gradtrace.service.spec import RunSpec, new_run_id, spec_from_text
from gradtrace.service.store import Store, connect
from gradtrace.service.store.jobs import Jobs
from gradtrace.tracer.steptrace import RunRecord

_IN_PROCESS = """
import sys, time
from gradtrace.service.runner import run
from gradtrace.service.spec import spec_from_json
from gradtrace.service.store import Neo4jSink, connect
spec = spec_from_json(sys.argv[1])
with connect(progress=False) as store:
    for line in sys.stdin:
        started = time.monotonic()
        with Neo4jSink.on(store) as sink:
            run(spec, sink)
        print(time.monotonic() - started, flush=True)
"""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one to warm up")
    parser.add_argument("--epochs", type=int, default=5, help="length of the runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gradtrace-bench-") as folder, servers(Path(folder)) as store:
        spec = spec_from_text("char-lstm", {"epochs": str(arguments.epochs)}, threads=1)
        overhead(store, spec, arguments.rounds)
        recovery(store, spec, arguments.rounds)


@contextmanager
def servers(data: Path) -> Iterator[Store]:
    """A store and a queue of this benchmark's own; their addresses are in the environment."""
    os.environ.update(GRADTRACE_DATA=str(data), GRADTRACE_IDLE="0", OMP_NUM_THREADS="1")
    try:
        with in_use(ensure_server(data)), connect(progress=False) as store:
            start_valkey(data)
            yield store
    finally:
        stop_valkey(data)
        stop_server(data)


@contextmanager
def worker(name: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is ready to take runs."""
    environment = {**os.environ, "GRADTRACE_REAP_SECONDS": "5", **{f"GRADTRACE_{k}": v for k, v in settings.items()}}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gradtrace.service.cli", "worker", "--name", name],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def overhead(store: Store, spec: RunSpec, rounds: int) -> None:
    """The same run by both, taking turns."""
    command = [sys.executable, "-c", _IN_PROCESS, spec.model_dump_json()]
    here: list[float] = []
    there: dict[str, list[float]] = {"60": [], "5": []}
    with ExitStack() as stack:
        local = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        )
        assert local.stdin is not None and local.stdout is not None
        for number in range(rounds + 1):
            local.stdin.write("\n")
            here.append(float(local.stdout.readline()))
            for seconds, times in there.items():
                # One worker at a time, warmed by a short run: two would share the machine.
                with worker("bench", SEGMENT_SECONDS=seconds):
                    finish(store, submit(store, spec_from_text("char-lstm", {"steps": "2"}, threads=1)))
                    started = time.monotonic()
                    finish(store, submit(store, spec))
                    times.append(time.monotonic() - started)
            if number == 0:
                here.clear()
                for times in there.values():
                    times.clear()
        local.stdin.close()
        local.wait(60)
    steps = store.driver.execute_query("MATCH (r:Run) RETURN max(r.position) AS n").records[0]["n"]
    print(
        f"\nchar-lstm, {steps:,} steps, every 10th traced and stored, 1 thread, median of {rounds} (lowest to highest)\n"
    )
    print("| how | seconds | against in process |")
    print("|---|---|---|")
    print(f"| in process | {spread(here)} | 1 |")
    for seconds, times in there.items():
        ratio = statistics.median(times) / statistics.median(here)
        print(f"| by a worker, segments of {seconds} s | {spread(times)} | {ratio:.2f} |")


def recovery(store: Store, spec: RunSpec, rounds: int) -> None:
    """From the kill until another process has taken the run, and until it is where it was."""
    print(f"\nA run killed in the middle, checkpoints every 2 s, median of {rounds} (lowest to highest)\n")
    print("| what is killed | seconds until the run is taken again | until it is where it was |")
    print("|---|---|---|")
    for what in ("the process that trains", "the whole worker"):
        taken: list[float] = []
        back: list[float] = []
        for _ in range(rounds):
            with worker("first", CHECKPOINT_SECONDS="2") as first:
                run = submit(store, spec)
                until(lambda: look(store, run).get("live_step") or 0, lambda step: step > 100)  # noqa: B023
                with ExitStack() as stack:
                    if what == "the whole worker":
                        stack.enter_context(worker("second", CHECKPOINT_SECONDS="2"))
                        time.sleep(5)  # until it stands by
                    before = look(store, run)
                    if "holder" not in before:
                        raise SystemExit(
                            f"The run was over before anything could be killed: it is {before['status']}. Give more --epochs."
                        )
                    victim = int(json.loads(before["holder"])["pid"])
                    if what == "the whole worker":
                        children = psutil.Process(first.pid).children(recursive=True)
                        for process in (first.pid, *(c.pid for c in children)):
                            os.kill(process, signal.SIGKILL)
                    else:
                        os.kill(victim, signal.SIGKILL)
                    killed = time.monotonic()
                    until(lambda: look(store, run)["fence"], lambda fence: fence > before["fence"])  # noqa: B023
                    taken.append(time.monotonic() - killed)
                    until(lambda: look(store, run)["live_step"], lambda s: s > before["live_step"])  # noqa: B023
                    back.append(time.monotonic() - killed)
                    finish(store, run)
        print(f"| {what} | {spread(taken)} | {spread(back)} |")


def submit(store: Store, spec: RunSpec) -> str:
    """Queue a run; its id."""
    run = new_run_id(spec.workload, 8)
    record = RunRecord(run, spec.workload, spec.experiment, spec.record_parameters(), spec.modes)
    assert enqueue(Jobs(store).submit(record, spec.model_dump_json()))
    return run


def look(store: Store, run: str) -> dict[str, Any]:
    """All properties of a run."""
    found = store.driver.execute_query("MATCH (r:Run {id: $run}) RETURN properties(r) AS r", run=run)
    return dict(found.records[0]["r"])


def until(value: Callable[[], Any], good: Callable[[Any], bool]) -> None:
    """Wait until a value is good."""
    deadline = time.monotonic() + 600
    while not good(value()):
        assert time.monotonic() < deadline, "the run does not go on"
        time.sleep(0.02)


def finish(store: Store, run: str) -> None:
    """Wait for the end of a run, which must be a good one."""
    until(lambda: look(store, run)["status"], lambda status: status in ("FINISHED", "FAILED", "INTERRUPTED"))
    assert look(store, run)["status"] == "FINISHED", look(store, run)


def spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
