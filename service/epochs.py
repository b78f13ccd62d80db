"""Components by epoch, added up while a run goes on: for runs whose traces do not go into the graph database."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from gradtrace.tracer.component_names import ROOT
from gradtrace.tracer.sinks.protocol import Sink, note_held_out
from gradtrace.tracer.steptrace import RunRecord, StepTrace


@dataclass(slots=True)
class Shares:
    """Sums over some traced steps."""

    steps: int = 0
    mass: float = 0.0
    foreign: float = 0.0
    total: float = 0.0
    visits: float = 0.0
    contested: int = 0
    won: int = 0

    @property
    def share(self) -> float:
        """Mass over the mass of all traces."""
        return self.mass / self.total if self.total else 0.0

    @property
    def foreign_share(self) -> float:
        """Mass from parameters outside over the mass of all traces."""
        return self.foreign / self.total if self.total else 0.0

    @property
    def win_rate(self) -> float | None:
        """Won of the contested departures; None if none was contested."""
        return self.won / self.contested if self.contested else None


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
        self._sums: dict[tuple[str, int, str, str, str], Shares] = defaultdict(Shares)

    def open_run(self, run: RunRecord) -> None:
        """Pass on."""
        self.sink.open_run(run)

    def write(self, step: StepTrace) -> None:
        """Add to the sums, and pass on."""
        self.sink.write(step)
        for trace in step.traces:
            total = sum(p.mass for p in trace.parameters)
            for c in trace.components:
                if c.component == ROOT:  # on every way
                    continue
                kept = self._sums[step.run, step.epoch, trace.mode, trace.batch, c.component]
                kept.steps += 1
                kept.mass += c.mass
                kept.foreign += c.foreign
                kept.total += total
                kept.visits += c.visits
                kept.contested += c.contested
                kept.won += c.won

    def note_held_out(self, run: str, measured: Mapping[str, float]) -> None:
        """Pass on, if the sink takes it."""
        note_held_out(self.sink, run, measured)

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
        """The answer to the question `components-by-epoch`, for every mode and batch that was traced.

        Epochs ascend; within one, the component with the largest share comes first.
        """
        found = sorted(
            (
                (mode, batch, epoch, component, s)
                for (of, epoch, mode, batch, component), s in self._sums.items()
                if of == run
            ),
            key=lambda f: (f[0], f[1], f[2], -f[4].share, f[3]),
        )
        ranks: Counter[tuple[str, str, int]] = Counter()
        rows = []
        for mode, batch, epoch, component, s in found:
            ranks[mode, batch, epoch] += 1
            rows.append(
                {
                    "mode": mode,
                    "batch": batch,
                    "epoch": epoch,
                    "rank": ranks[mode, batch, epoch],
                    "component": component,
                    "share": s.share,
                    "foreign_share": s.foreign_share,
                    "win_rate": s.win_rate,
                    "visits": s.visits / s.steps,
                    "steps": s.steps,
                }
            )
        return rows

    def totals(self, runs: Collection[str], mode: str, batch: str) -> dict[str, Shares]:
        """Component → its sums over all traced steps of these runs, in one mode and on one batch."""
        found: dict[str, Shares] = defaultdict(Shares)
        for (run, _, of_mode, of_batch, component), s in self._sums.items():
            if run in runs and (of_mode, of_batch) == (mode, batch):
                kept = found[component]
                for field in fields(Shares):
                    setattr(kept, field.name, getattr(kept, field.name) + getattr(s, field.name))
        return dict(found)
