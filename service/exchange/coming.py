"""Runs out of a file into a store, by the sink that training writes through: exactly once, however often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gradtrace.service.exchange.faults import fault
from gradtrace.service.exchange.formats import format_of, need_pyarrow
from gradtrace.service.exchange.leaving import Tell
from gradtrace.service.store.connect import Store
from gradtrace.service.store.read import StoredRun
from gradtrace.service.store.read_known import KnownRun, known_run
from gradtrace.service.store.rows import weight_of
from gradtrace.service.store.sink import Neo4jSink
from gradtrace.tracer.errors import ExchangeError
from gradtrace.tracer.fold import When
from gradtrace.tracer.sinks.protocol import RUN_STATUSES
from gradtrace.tracer.steptrace import RunRecord, StepTrace

_PART_BYTES, _PART_STEPS = 8_000_000, 64
"""What is sent at once: so many steps of so many bytes at most, about."""
_Steps = dict[int, tuple[int, float]]
"""Epoch and loss by number."""


class Source(Protocol):
    """A file or folder of runs. Steps can be read more than once."""

    fold: When
    path: Path

    def runs(self) -> Sequence[StoredRun]:
        """The runs, without their steps."""

    def steps(self) -> Iterator[StepTrace]:
        """The steps of all runs."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one run.

    Attributes:
        run: its id.
        steps: traced steps of it in the file.
        new: those of them that the store did not hold before.
        status: of the run in the store now.
    """

    run: str
    steps: int
    new: int
    status: str


def open_source(path: Path, form: str | None = None) -> Source:
    """A file of JSON lines or a folder of Parquet files, looked at but not read through.

    Raises:
        ExchangeError: it is not there, or it is none of ours.
        SpecError: its name tells no format that can be imported.
    """
    if not path.exists():
        raise ExchangeError(f"There is no {path}. Name a folder or a .jsonl file that `gradtrace db export` made.")
    form = form or ("parquet" if path.is_dir() else format_of(path))
    if form == "graphml":
        raise ExchangeError(
            f"{path} holds the graph of one step, not a run: GraphML cannot be imported. Export runs as Parquet or JSON lines."
        )
    if form == "jsonl":
        from gradtrace.service.exchange.jsonl import JsonlSource

        return JsonlSource(path)
    need_pyarrow()
    from gradtrace.service.exchange.parquet_read import ParquetSource

    return ParquetSource(path)


def import_runs(store: Store, source: Source, *, tell: Tell | None = None) -> list[Imported]:
    """Write the runs of a source with all their steps into a store.

    The whole source is read and compared with the store before anything is written. Steps that are there already stay as they
    are, so it may be repeated after it was killed, and done twice. A run that is over in the store is ended anew only if steps
    came to it.

    Args:
        store: where they go.
        source: where they come from.
        tell: is told how far it is.

    Raises:
        ExchangeError: the source is cut, changed or malformed, or the store holds another run of the same id; nothing is written.
        StoreError: the store cannot be used; what is there by then is whole.
    """
    runs = {run.record.id: run for run in source.runs()}
    numbers = _checked(source, runs)
    known = {run: known_run(store.driver, run, store.database) for run in runs}
    for run, held in known.items():
        if held is not None:
            _compare(runs[run], numbers[run], held)
    there = {run: set(held.steps) if held else set() for run, held in known.items()}
    new = {run: len(numbers[run].keys() - there[run]) for run in runs}
    ended = {run: held.status for run, held in known.items() if held and held.status in RUN_STATUSES[1:]}
    with Neo4jSink.on(store, fold=source.fold) as sink:
        for run, stored in runs.items():
            sink.open_run(stored.record)
            if (
                run in ended and new[run]
            ):  # before its steps: were it killed behind the last one, nothing would be new next time
                _end(sink, stored)
        _write(sink, source, runs, there, tell)
        for run, stored in runs.items():
            if run not in ended or new[run]:
                _end(sink, stored)
                ended[run] = stored.status
    return [Imported(run, stored.steps, new[run], ended[run]) for run, stored in runs.items()]


def _write(
    sink: Neo4jSink, source: Source, runs: Mapping[str, StoredRun], there: Mapping[str, set[int]], tell: Tell | None
) -> None:
    """Write the steps that are not there, in parts: a full queue, which is for training, would warn that it slows it down."""
    done, waiting = dict.fromkeys(runs, 0), 0
    for step in source.steps():
        if step.step not in there[step.run]:
            sink.write(step)
            waiting += max(weight_of(step), _PART_BYTES // _PART_STEPS)
            if waiting > _PART_BYTES:
                sink.flush()
                waiting = 0
        done[step.run] += 1
        if tell:
            tell(step.run, done[step.run], runs[step.run].steps)
    sink.flush()


def _end(sink: Neo4jSink, run: StoredRun) -> None:
    if run.held_out:
        sink.note_held_out(run.record.id, run.held_out)
    sink.close_run(run.record.id, run.status, run.reason)


def _checked(source: Source, runs: Mapping[str, StoredRun]) -> dict[str, _Steps]:
    """Read a source through, and refuse what a store cannot take; its steps by run and number."""
    for name, run in runs.items():
        if run.status not in RUN_STATUSES[1:]:
            raise ExchangeError(f"Run {name!r} in {source.path} has the status {run.status!r}, so it has not ended.")
    graphs: set[str] = set()
    found: dict[str, _Steps] = {run: {} for run in runs}
    for step in source.steps():
        name = f"Step {step.step} of run {step.run!r} in {source.path}"
        if step.run not in found:
            raise ExchangeError(f"{name} is of a run that is not announced there. Export again.")
        if step.step in found[step.run]:
            raise ExchangeError(f"{name} stands there twice. Export again.")
        if reason := fault(step, graphs):
            raise ExchangeError(f"{name} cannot be stored: {reason}. It was changed; export again.")
        found[step.run][step.step] = (step.epoch, step.loss)
    for name, run in runs.items():
        if len(found[name]) != run.steps:
            raise ExchangeError(
                f"Run {name!r} has {run.steps} traced steps, and {source.path} holds {len(found[name])} of them. It was cut or "
                "changed; copy it once more, or export again."
            )
    return found


def _compare(run: StoredRun, steps: _Steps, held: KnownRun) -> None:
    """Refuse a run if the store holds another one of its id, or one that somebody trains."""
    name = run.record.id
    if differing := _differing(run.record, held.record):
        raise ExchangeError(
            f"The store holds another run {name!r}: {differing} in the store. Nothing was written. Import into another store, or "
            "leave this run out."
        )
    for number in sorted(steps.keys() & held.steps.keys()):
        (epoch, loss), (at, there) = steps[number], held.steps[number]
        if epoch != at or not (loss == there or (math.isnan(loss) and math.isnan(there))):
            raise ExchangeError(
                f"The store holds another run {name!r}: step {number} has epoch {epoch} and loss {loss!r} in the file, and epoch "
                f"{at} and loss {there!r} in the store. Nothing was written. Import into another store, or leave this run out."
            )
    if held.status == "QUEUED" or held.taken:
        raise ExchangeError(
            f"Run {name!r} is {held.status} in the store, and a worker has it or will take it. Nothing was written. Wait until it "
            f"has ended, or end it: `gradtrace cancel {name}`."
        )


def _differing(ours: RunRecord, theirs: RunRecord) -> str | None:
    """In what two records of runs differ, in words, or None."""
    for what in ("workload", "experiment", "modes"):
        a, b = getattr(ours, what), getattr(theirs, what)
        if a != b:
            return f"{what} is {a!r} in the file and {b!r}"
    for name in sorted(ours.parameters.keys() | theirs.parameters.keys()):
        a, b = ours.parameters.get(name), theirs.parameters.get(name)
        if repr(a) != repr(b):  # NaN is NaN, and 1 is not 1.0
            return f"the hyperparameter {name} is {a!r} in the file and {b!r}"
    return None
