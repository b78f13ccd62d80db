"""A process that writes steps and says on its standard output which are durable: for tests that kill it.

    python -m tests.service.store.writing RUN FIRST LAST

The address comes from the environment (`STORE_URI`, `STORE_USER`, `STORE_PASSWORD`), so that it is not on the command
line.
"""

from __future__ import annotations

import os
import sys

from gradtrace.service.store import Neo4jSink
from gradtrace.tracer.steptrace import StepTrace
from tests.synthetic import run_record, step_trace


def step_of(run: str, number: int) -> StepTrace:
    """The step that every writer of these tests writes under this number."""
    return step_trace(run, number, epoch=number // 10, novelty=0.2, modes=("greedy", "maxprod"), scalars=True)


def main() -> None:
    """Write the steps, flushing after every third, and print the number of each that is durable."""
    run, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    keys = ("STORE_URI", "STORE_USER", "STORE_PASSWORD")
    with Neo4jSink(*(os.environ[k] for k in keys), batch_steps=4) as sink:
        sink.open_run(run_record(run))
        written: list[int] = []
        for number in range(first, last):
            sink.write(step_of(run, number))
            written.append(number)
            if len(written) == 3 or number == last - 1:
                sink.flush()
                print(*written, flush=True)
                written.clear()
    print("done", flush=True)


if __name__ == "__main__":
    main()
