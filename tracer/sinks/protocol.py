"""What a sink is: where traced steps go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from gradtrace.tracer.steptrace import RunRecord, StepTrace

RUN_STATUSES = ("RUNNING", "FINISHED", "INTERRUPTED", "FAILED")


@runtime_checkable
class Sink(Protocol):
    """Takes the traced steps of one or more runs. `write` may return before the step is durable; `flush` may not."""

    def open_run(self, run: RunRecord) -> None:
        """Announce a run, before its first step. Announcing the same run again changes nothing."""

    def write(self, step: StepTrace) -> None:
        """Take one step. A step (run, step) that is there already stays as it is: the first one wins."""

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Flush, then mark the run `FINISHED`, `INTERRUPTED` or `FAILED` (with the reason)."""

    def flush(self) -> int:
        """Block until every step written so far is durable; return the number of durable steps of this sink."""

    def close(self) -> None:
        """Flush and release everything. Further writes are an error."""


@runtime_checkable
class TakesHeldOut(Protocol):
    """What a sink may take besides: what a run measured on held-out examples when it ended."""

    def note_held_out(self, run: str, measured: Mapping[str, float]) -> None:
        """Keep measures by name (`{"loss": 0.31, "accuracy": 0.9}`) with a run that was announced, before it is closed."""


def note_held_out(sink: Sink, run: str, measured: Mapping[str, float]) -> None:
    """Tell a sink what a run measured on held-out examples, if it takes that."""
    if isinstance(sink, TakesHeldOut):
        sink.note_held_out(run, measured)


def check_status(status: str) -> None:
    """Refuse a status that a closed run cannot have.

    Raises:
        ValueError: with the statuses that it can have.
    """
    if status not in RUN_STATUSES[1:]:
        raise ValueError(f"{status!r} is no status of a closed run; it is one of {', '.join(RUN_STATUSES[1:])}.")
