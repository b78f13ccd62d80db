"""Runs out of a store into a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from gradtrace.service.exchange.formats import check_free, format_of, need_pyarrow, whole
from gradtrace.service.store.connect import Store
from gradtrace.service.store.read import StoredRun, read_run, read_step_numbers, read_steps
from gradtrace.tracer.errors import ExchangeError
from gradtrace.tracer.steptrace import StepTrace

Tell = Callable[[str, int, int], None]
"""Is told a run, how many of its steps are done, and how many it has."""


class Files(Protocol):
    """Takes runs; what it was given is whole when it is left without an error."""

    def open_run(self, run: StoredRun) -> None:
        """Take a run, before its steps."""

    def write(self, step: StepTrace) -> None:
        """Take a step."""


def export_runs(
    store: Store, runs: Sequence[str], target: Path, form: str | None = None, *, tell: Tell | None = None
) -> list[StoredRun]:
    """Write runs with all their steps into a new file (JSON lines) or folder (Parquet).

    Nothing is at `target` until everything is: it is written beside and renamed.

    Args:
        store: where the runs are.
        runs: their ids.
        target: a file or folder that is not there yet.
        form: `"parquet"` or `"jsonl"`; if None, what `target` ends in tells it.
        tell: is told how far it is.

    Raises:
        StoreError: a run is unknown, has not ended, or steps of it were pruned.
        ExchangeError: the target is there, or cannot be written; pyarrow is missing.
        SpecError: the target's name tells no format.
    """
    form = form or format_of(target)
    if form == "parquet":
        need_pyarrow()
    check_free(target)
    found = [read_run(store.driver, run, store.database) for run in dict.fromkeys(runs)]
    with whole(target) as part, _files(part, form) as files:
        for run in found:
            files.open_run(run)
            count = 0
            for count, step in enumerate(read_steps(store.driver, run.record.id, store.database), 1):
                files.write(step)
                if tell:
                    tell(run.record.id, count, run.steps)
            if count != run.steps:
                raise ExchangeError(
                    f"Run {run.record.id!r} had {run.steps} traced steps and {count} came: it was changed meanwhile. Try again."
                )
    return found


def export_graph(
    store: Store,
    run: str,
    target: Path,
    *,
    step: int | None = None,
    mode: str | None = None,
    batch: str | None = None,
) -> StepTrace:
    """Write the operator graph of one step of a run with its numbers into a new GraphML file.

    Args:
        store: where the run is.
        run: its id; it may still be training.
        target: a file that is not there yet.
        step: number of a stored step; the last one if None.
        mode, batch: which of its traces; if None, the first.

    Returns:
        The step.

    Raises:
        StoreError: the run or the detail of the step is not there.
        ExchangeError: the step is not there, or has no such trace; the target is there, or cannot be written.
    """
    from gradtrace.service.exchange.graphml import trace_of, write_graphml

    check_free(target)
    numbers = read_step_numbers(store.driver, run, store.database)
    if not numbers:
        raise ExchangeError(f"The store holds no traced step of a run {run!r}; `gradtrace runs` lists the runs.")
    step = numbers[-1] if step is None else step
    if step not in numbers:
        near = sorted(sorted(numbers, key=lambda n: (abs(n - step), n))[:5])
        raise ExchangeError(
            f"Run {run!r} has no traced step {step}; it has {len(numbers)}, near it {', '.join(map(str, near))}."
        )
    (found,) = read_steps(store.driver, run, store.database, only=step)
    trace = trace_of(found, mode, batch)
    with whole(target) as part:
        write_graphml(found, trace, part)
    return found


def _files(part: Path, form: str) -> AbstractContextManager[Files]:
    if form == "jsonl":
        from gradtrace.service.exchange.jsonl import JsonlFile

        return JsonlFile(part)
    from gradtrace.service.exchange.parquet_write import ParquetFiles

    return ParquetFiles(part)
