"""Runs into and out of a file of JSON lines, by the tracer's own sink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from gradtrace.service.store.read import StoredRun
from gradtrace.tracer.errors import ExchangeError, SinkError
from gradtrace.tracer.fold import When
from gradtrace.tracer.sinks import JsonlSink
from gradtrace.tracer.sinks.jsonl import Ended, HeldOut, Torn, stream_jsonl
from gradtrace.tracer.steptrace import RunRecord, StepTrace


class JsonlFile:
    """Takes runs and writes them into a new file. Whole when it is closed."""

    def __init__(self, path: Path) -> None:
        self._sink = JsonlSink(path)
        self._ends: list[StoredRun] = []

    def __enter__(self) -> JsonlFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._sink as sink:
            for run in self._ends if kind is None else ():
                if run.held_out:
                    sink.note_held_out(run.record.id, run.held_out)
                sink.close_run(run.record.id, run.status, run.reason)

    def open_run(self, run: StoredRun) -> None:
        """Take a run, before its steps."""
        self._sink.open_run(run.record)
        self._ends.append(run)

    def write(self, step: StepTrace) -> None:
        """Take a step."""
        self._sink.write(step)


class JsonlSource:
    """A file of JSON lines as runs and their steps, read line by line.

    Raises:
        ExchangeError: it is no such file, it is cut, or a run in it was never announced or never ended.
    """

    fold: When = "auto"
    """It may come from a tracer: graphs that the store would fold are folded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        records: dict[str, RunRecord] = {}
        ends: dict[str, Ended] = {}
        held_out: dict[str, dict[str, float]] = {}
        steps: dict[str, set[int]] = {}
        for record in self._records():
            match record:
                case RunRecord():
                    records.setdefault(record.id, record)
                case StepTrace():
                    steps.setdefault(record.run, set()).add(record.step)
                case Ended():
                    ends[record.run] = record
                case HeldOut():
                    held_out.setdefault(record.run, {}).update(record.measured)
                case Torn():
                    raise ExchangeError(
                        f"{path} ends in the middle of a line ({record.size} bytes): it was cut. {_AGAIN}"
                    )
        if unknown := sorted((steps.keys() | ends.keys()) - records.keys()):
            raise ExchangeError(f"{path} has steps of run {unknown[0]!r}, which it does not announce. {_AGAIN}")
        if unended := sorted(records.keys() - ends.keys()):
            raise ExchangeError(
                f"{path} does not say how run {unended[0]!r} ended: it was cut, or its writer was killed. {_AGAIN}"
            )
        self._runs = [
            StoredRun(record, ends[run].status, ends[run].reason, held_out.get(run, {}), len(steps.get(run, ())))
            for run, record in records.items()
        ]

    def runs(self) -> list[StoredRun]:
        """The runs, without their steps."""
        return self._runs

    def steps(self) -> Iterator[StepTrace]:
        """The steps of all runs as they stand there, each (run, step) once: the first one counts."""
        seen: set[tuple[str, int]] = set()
        for record in self._records():
            if isinstance(record, StepTrace) and (record.run, record.step) not in seen:
                seen.add((record.run, record.step))
                yield record

    def _records(self) -> Iterator[RunRecord | StepTrace | Ended | HeldOut | Torn]:
        try:
            yield from stream_jsonl(self.path)
        except (SinkError, UnicodeDecodeError) as error:
            raise ExchangeError(f"{self.path} is no file of traced steps, or was changed. {error}") from error
        except OSError as error:
            raise ExchangeError(f"{self.path} cannot be read: {error.strerror or error}.") from error


_AGAIN = "Copy it once more, or make it again with `gradtrace db export`."
