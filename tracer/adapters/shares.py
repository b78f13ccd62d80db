"""What sinks of experiment trackers have in common: steps as a few named numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from gradtrace.tracer.errors import SinkClosedError
from gradtrace.tracer.sinks.protocol import check_status
from gradtrace.tracer.steptrace import RunRecord, StepTrace

__all__ = ["ShareSink", "share_values"]


def share_values(step: StepTrace) -> dict[str, float]:
    """The numbers of a step that are worth a curve, by name.

    That is the loss, and per mode, batch and component its share of all gradient mass, the part of it that comes from
    parameters outside (`foreign_share`), and the part of contested forks that it won (`win_rate`, where there were any).

    >>> share_values(step)["greedy/training/share/lstm.l0.carry"]       # doctest: +SKIP
    0.41
    """
    values = {"loss": step.loss}
    for t in step.traces:
        for c in t.components:
            here = {"share": c.share, "foreign_share": c.share * c.foreign / c.mass if c.mass else 0.0}
            if c.contested:
                here["win_rate"] = c.won / c.contested
            values |= {f"{t.mode}/{t.batch}/{name}/{c.component}": value for name, value in here.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


class ShareSink(ABC):
    """A `Sink` that passes `share_values` on; subclasses say where to. Each (run, step) is logged once a sink."""

    def __init__(self) -> None:
        self._written: set[tuple[str, int]] = set()
        self._known: set[str] = set()
        self._closed = False

    def open_run(self, run: RunRecord) -> None:
        """Announce a run; again, and nothing happens."""
        self._check_open()
        if run.id not in self._known:
            self._known.add(run.id)
            self._announce(run)

    def write(self, step: StepTrace) -> None:
        """Log the shares of one step."""
        self._check_open()
        if (step.run, step.step) not in self._written:
            self._log(step.run, step.step, share_values(step))
            self._written.add((step.run, step.step))

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Say how the run ended."""
        self._check_open()
        check_status(status)
        self._end(run, status, reason)
        self.flush()

    def flush(self) -> int:
        """Bring everything to where it is kept; the number of steps logged by this sink."""
        self._check_open()
        self._flush()
        return len(self._written)

    def close(self) -> None:
        """Flush and release everything."""
        if not self._closed:
            self.flush()
            self._close()
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise SinkClosedError(f"This {type(self).__name__} was closed; write to a new one.")

    @abstractmethod
    def _announce(self, run: RunRecord) -> None:
        """A run begins."""

    @abstractmethod
    def _log(self, run: str, step: int, values: dict[str, float]) -> None:
        """Log the values of one step."""

    @abstractmethod
    def _end(self, run: str, status: str, reason: str | None) -> None:
        """A run has ended."""

    @abstractmethod
    def _flush(self) -> None:
        """Bring everything to where it is kept."""

    @abstractmethod
    def _close(self) -> None:
        """Release everything."""
