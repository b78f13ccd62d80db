"""Several sinks as one."""

from __future__ import annotations

from collections.abc import Mapping

from gradtrace.tracer.sinks.protocol import Sink, note_held_out
from gradtrace.tracer.steptrace import RunRecord, StepTrace


class SeveralSinks:
    """Gives every run and step to all of its sinks, in their order.

    An error of one sink is raised at once; the sinks after it are then not told. `close` closes all, whatever one raises.

    >>> from gradtrace.tracer.sinks import MemorySink
    >>> SeveralSinks(MemorySink(), MemorySink()).flush()
    0
    """

    def __init__(self, *sinks: Sink) -> None:
        if not sinks:
            raise ValueError("SeveralSinks needs at least one sink.")
        self._sinks = sinks

    def open_run(self, run: RunRecord) -> None:
        """Announce a run to all."""
        for sink in self._sinks:
            sink.open_run(run)

    def write(self, step: StepTrace) -> None:
        """Give all of them one step."""
        for sink in self._sinks:
            sink.write(step)

    def note_held_out(self, run: str, measured: Mapping[str, float]) -> None:
        """Tell all of them that take it what the run measured on held-out examples."""
        for sink in self._sinks:
            note_held_out(sink, run, measured)

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Mark the run in all of them."""
        for sink in self._sinks:
            sink.close_run(run, status, reason)

    def flush(self) -> int:
        """Flush all; the number of steps durable in every one of them."""
        return min(sink.flush() for sink in self._sinks)

    def close(self) -> None:
        """Close all; the first error is raised when all have been told."""
        errors = []
        for sink in self._sinks:
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
