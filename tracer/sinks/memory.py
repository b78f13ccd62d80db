"""A sink that keeps steps in memory: for notebooks, tests, and whoever wants to look at them at once."""

from __future__ import annotations

from gradtrace.tracer.errors import SinkClosedError
from gradtrace.tracer.sinks.protocol import check_status
from gradtrace.tracer.steptrace import RunRecord, StepTrace


class MemorySink:
    """Keeps everything it is given, the first of two equal (run, step).

    Attributes:
        runs: the announced runs by id.
        steps: the steps by (run, step), in the order in which they came.
        statuses: (status, reason) of the runs that were closed.

    >>> sink = MemorySink()
    >>> sink.flush()
    0
    """

    def __init__(self) -> None:
        self.runs: dict[str, RunRecord] = {}
        self.steps: dict[tuple[str, int], StepTrace] = {}
        self.statuses: dict[str, tuple[str, str | None]] = {}
        self._closed = False

    def open_run(self, run: RunRecord) -> None:
        """Announce a run; the first record of an id stays."""
        self._check_open()
        self.runs.setdefault(run.id, run)

    def write(self, step: StepTrace) -> None:
        """Keep one step, unless this (run, step) is kept already."""
        self._check_open()
        self.steps.setdefault((step.run, step.step), step)

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Note how the run ended."""
        self._check_open()
        check_status(status)
        self.statuses[run] = (status, reason)

    def flush(self) -> int:
        """Number of steps kept. Memory is as durable as it gets here."""
        return len(self.steps)

    def close(self) -> None:
        """Refuse further writes; what is kept stays readable."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise SinkClosedError("This MemorySink was closed; write to a new one.")
