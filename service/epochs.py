"""Components by epoch, added up while a run goes on: for runs whose traces do not go into the graph database."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from gradtrace.tracer.sinks.protocol import Sink
from gradtrace.tracer.steptrace import RunRecord, StepTrace


@dataclass(slots=True)
class _Sum:
    """Sums over the traced steps of one epoch."""

    steps: int = 0
    share: float = 0.0
    foreign_share: float = 0.0
    contested: int = 0
    won: int = 0


class EpochShares:
    """A sink that passes everything on to another one and keeps sums per epoch, mode, batch and component.

    Attributes:
        sink: where everything goes.

    Example:
        >>> from gradtrace.tracer.sinks import MemorySink
        >>> EpochShares(MemorySink()).rows("no-such-run")
        []
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._sums: dict[tuple[str, int, str, str, str], _Sum] = defaultdict(_Sum)

    def open_run(self, run: RunRecord) -> None:
        """Pass on."""
        self.sink.open_run(run)

    def write(self, step: StepTrace) -> None:
        """Add to the sums, and pass on."""
        self.sink.write(step)
        for trace in step.traces:
            whole = sum(p.mass for p in trace.parameters)
            for c in trace.components:
                kept = self._sums[step.run, step.epoch, trace.mode, trace.batch, c.component]
                kept.steps += 1
                kept.share += c.share
                kept.foreign_share += c.foreign / whole if whole else 0.0
                kept.contested += c.contested
                kept.won += c.won

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Pass on."""
        self.sink.close_run(run, status, reason)

    def flush(self) -> int:
        """Pass on; the number of durable steps of the sink."""
        return self.sink.flush()

    def close(self) -> None:
        """Pass on."""
        self.sink.close()

    def rows(self, run: str) -> list[dict[str, Any]]:
        """One row an epoch, mode, batch and component, with the columns of the question `components-by-epoch`.

        Epochs ascend; within one, the component with the largest share comes first.
        """
        rows = [
            {
                "mode": mode,
                "batch": batch,
                "epoch": epoch,
                "component": component,
                "share": s.share / s.steps,
                "foreign_share": s.foreign_share / s.steps,
                "win_rate": s.won / s.contested if s.contested else None,
                "contested": s.contested,
                "steps": s.steps,
            }
            for (of, epoch, mode, batch, component), s in self._sums.items()
            if of == run
        ]
        return sorted(rows, key=lambda r: (r["mode"], r["batch"], r["epoch"], -r["share"], r["component"]))
