"""A sink that appends to a file of JSON lines, and its reader.

One line a record, `{"type": "run" | "graph" | "step" | "held_out" | "end", ...}`; a graph stands once, before the first step that
refers to it. A process that is killed in mid-write leaves at most one torn line, the last one: the next writer sets it
aside in a file of its own, and a reader leaves it out and says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from gradtrace.tracer.errors import SinkClosedError, SinkError
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.sinks.protocol import check_status
from gradtrace.tracer.sinks.records import (
    graph_from_json,
    graph_to_json,
    run_from_json,
    run_to_json,
    step_from_json,
    step_to_json,
)
from gradtrace.tracer.steptrace import RunRecord, StepTrace

log = logging.getLogger(__name__)


@dataclass
class Recording:
    """What a file of JSON lines holds.

    Attributes:
        runs: the announced runs by id.
        steps: the steps by (run, step), in the order of the file.
        statuses: (status, reason) of the runs that were closed.
        held_out: what runs measured on held-out examples, by run and name.
        torn: number of bytes of a torn last line that was left out; 0 if the file is whole.
    """

    runs: dict[str, RunRecord] = field(default_factory=dict)
    steps: dict[tuple[str, int], StepTrace] = field(default_factory=dict)
    statuses: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    held_out: dict[str, dict[str, float]] = field(default_factory=dict)
    torn: int = 0

    def of(self, run: str) -> list[StepTrace]:
        """The steps of one run, by step."""
        return [self.steps[key] for key in sorted(key for key in self.steps if key[0] == run)]


def read_jsonl(path: str | os.PathLike[str]) -> Recording:
    """Read a file that `JsonlSink` wrote. Values come back exactly, NaN and infinities included.

    Raises:
        SinkError: a line that is not the last one is no record.
        FileNotFoundError: there is no such file.
    """
    recording = Recording()
    for record in stream_jsonl(path):
        match record:
            case RunRecord():
                recording.runs.setdefault(record.id, record)
            case StepTrace():
                recording.steps.setdefault((record.run, record.step), record)
            case Ended():
                recording.statuses[record.run] = (record.status, record.reason)
            case HeldOut():
                recording.held_out.setdefault(record.run, {}).update(record.measured)
            case Torn():
                recording.torn = record.size
                log.warning("%s ends with a torn line (%d bytes); it was left out.", Path(path).name, record.size)
    return recording


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    run: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a run measured on held-out examples."""

    run: str
    measured: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Torn:
    """The last line is torn; how many bytes it has."""

    size: int


def stream_jsonl(path: str | os.PathLike[str]) -> Iterator[RunRecord | StepTrace | Ended | HeldOut | Torn]:
    """The records of a file that `JsonlSink` wrote, one after the other as they stand there; graphs come with their steps.

    Raises:
        SinkError: a line that is not the last one is no record.
        FileNotFoundError: there is no such file.
    """
    graphs: dict[str, Graph] = {}
    source = Path(path)
    with source.open("rb") as file:
        for number, record in _records(file, source):
            if record is None:
                yield Torn(number)
                continue
            try:
                made = _made(record, graphs)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise SinkError(f"Line {number} of {source.name} is no record of a JsonlSink: {error!r}.") from error
            if made is not None:
                yield made


class JsonlSink:
    """Appends steps to `path`, each (run, step) once over the whole life of the file.

    Attributes:
        path: the file.
        set_aside: where a torn last line of a killed writer was put, or None.

    Example:
        `with JsonlSink("steps.jsonl") as sink: tracer = Tracer(model, sink=sink, run="a")`
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.set_aside: Path | None = None
        self._runs: set[str] = set()
        self._graphs: set[str] = set()
        self._steps: set[tuple[str, int]] = set()
        if self.path.exists() and not self.path.is_file():  # a device or a pipe can be read without an end
            raise SinkError(f"{self.path} is no regular file. Name a file for the steps.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._resume()
        self._file: FileIO | None = self.path.open("ab", buffering=0)

    def __enter__(self) -> JsonlSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_run(self, run: RunRecord) -> None:
        """Announce a run; the first record of an id stays."""
        self._opened()
        if run.id not in self._runs:
            self._append({"type": "run", **run_to_json(run)})
            self._runs.add(run.id)

    def write(self, step: StepTrace) -> None:
        """Append one step, unless this (run, step) is in the file already."""
        self._opened()
        if (step.run, step.step) in self._steps:
            return
        for graph in step.graphs:
            if graph.fingerprint not in self._graphs:
                self._append({"type": "graph", **graph_to_json(graph)})
                self._graphs.add(graph.fingerprint)
        self._append({"type": "step", **step_to_json(step)})
        self._steps.add((step.run, step.step))

    def note_held_out(self, run: str, measured: Mapping[str, float]) -> None:
        """Note what a run measured on held-out examples; later measures of a name take the place of earlier ones."""
        values = {k: v if math.isfinite(v) else str(float(v)) for k, v in measured.items()}
        self._append({"type": "held_out", "run": run, "measured": values})

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Note how the run ended, and flush."""
        check_status(status)
        self._append({"type": "end", "run": run, "status": status, "reason": reason})
        self.flush()

    def flush(self) -> int:
        """Bring everything to the disk; the number of steps in the file."""
        try:
            os.fsync(self._opened().fileno())
        except OSError as error:
            raise self._failed(error) from error
        return len(self._steps)

    def close(self) -> None:
        """Flush and close the file."""
        if self._file is not None:
            try:
                self.flush()
            finally:
                self._file.close()
                self._file = None

    def _opened(self) -> FileIO:
        if self._file is None:
            raise SinkClosedError(f"The JsonlSink of {self.path.name} was closed; open a new one to append to it.")
        return self._file

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        file, rest = self._opened(), memoryview(line.encode() + b"\n")
        whole = os.fstat(file.fileno()).st_size
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException as error:  # a full disk, or Ctrl-C in the middle
            with contextlib.suppress(OSError):
                file.truncate(whole)  # the file goes on to end with a whole line, and the step may be written again
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(
            f"Cannot write {self.path}: {error.strerror or error}. It holds {len(self._steps)} whole steps. Free some space or "
            f"name a file elsewhere."
        )

    def _resume(self) -> None:
        """Learn what the file holds, and move a torn last line out of it."""
        torn = 0
        with self.path.open("rb") as file:
            for number, record in _records(file, self.path):
                match record:
                    case None:
                        torn = number
                    case {"type": "run", "id": run}:
                        self._runs.add(run)
                    case {"type": "graph", "fingerprint": fingerprint}:
                        self._graphs.add(fingerprint)
                    case {"type": "step", "run": run, "step": step}:
                        self._steps.add((run, step))
        if torn:
            self._cut(torn)

    def _cut(self, torn: int) -> None:
        """Move the last `torn` bytes into a file beside; they are on the disk there before they are cut off here."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.torn-{number}")).exists():
            number += 1
        whole = self.path.stat().st_size - torn
        with self.path.open("r+b") as file:
            file.seek(whole)
            with aside.open("wb") as other:
                other.write(file.read())
                other.flush()
                os.fsync(other.fileno())
            file.truncate(whole)
        self.set_aside = aside
        log.warning("%s ended with a torn line (%d bytes); set aside as %s.", self.path.name, torn, aside.name)


def _records(file: BinaryIO, path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Line number and record of every line; last (bytes, None) if the last line is torn."""
    for number, line in enumerate(file, 1):
        whole = line.endswith(b"\n")
        try:
            record = json.loads(line) if whole else None
        except ValueError as error:
            if file.read(1):
                raise SinkError(
                    f"Line {number} of {path.name} is no JSON ({error}); only a last line may be torn. "
                    "Restore the file, or cut it before that line."
                ) from error
            record = None
        if record is not None and not isinstance(record, dict):
            raise SinkError(f"Line {number} of {path.name} is no record of a JsonlSink but {type(record).__name__}.")
        yield (number, record) if record is not None else (len(line), None)


def _made(record: dict[str, Any], graphs: dict[str, Graph]) -> RunRecord | StepTrace | Ended | HeldOut | None:
    """What a line says; None for a graph, which is added to those known."""
    match record["type"]:
        case "run":
            return run_from_json(record)
        case "graph":
            graph = graph_from_json(record)
            graphs.setdefault(graph.fingerprint, graph)
            return None
        case "step":
            return step_from_json(record, graphs)
        case "end":
            return Ended(record["run"], record["status"], record["reason"])
        case "held_out":
            return HeldOut(record["run"], {name: float(value) for name, value in record["measured"].items()})
        case other:
            raise ValueError(f"unknown record type {other!r}")
