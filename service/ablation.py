"""Ablation: does learning suffer most where the gradient is blocked that the traces call dominant?

Copies of a run are trained, for each seed one as it is and one for each component with the gradient through that component
blocked, and held against each other beside what the traces of the unblocked runs say of the component.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gradtrace.service.epochs import EpochShares
from gradtrace.service.runner import RunHooks, RunResult, run
from gradtrace.service.spec import RunSpec
from gradtrace.tracer.component_names import ROOT
from gradtrace.tracer.sinks.protocol import Sink

COLUMNS = (
    *("blocked", "runs", "loss", "loss_sd", "held_out", "held_out_sd", "accuracy", "rise", "rise_sd"),
    *("share", "foreign_share", "win_rate"),
)
"""Columns of `Ablation.rows`."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One of the runs: what was blocked in it, its seed, and how it ended."""

    blocked: tuple[str, ...]
    seed: int
    result: RunResult

    @property
    def loss(self) -> float:
        """Mean training loss of the last tenth of its steps."""
        losses = self.result.losses
        last = losses[-max(len(losses) // 10, 1) :]
        return sum(last) / len(last) if last else math.nan

    @property
    def held_out(self) -> float:
        """Loss on the held-out examples after training."""
        return self.result.after["loss"]


class Ablation:
    """The runs of an ablation and what they add up to.

    Args:
        sink: where the traced steps go; stays open.

    Attributes:
        copies: the runs so far.
    """

    def __init__(self, sink: Sink) -> None:
        self._shares = EpochShares(sink)
        self.copies: list[Copy] = []

    def train(
        self, specs: Sequence[RunSpec], hooks: Callable[[RunSpec], RunHooks], stop: Callable[[], bool] | None = None
    ) -> bool:
        """Train all runs, one after the other; whether all came to their end.

        Args:
            specs: the runs (of `copies_of`).
            hooks: whom to tell of a run.
            stop: asked between two runs; `RunHooks.stop` is asked inside them.
        """
        for spec in specs:
            if stop is not None and stop():
                return False
            result = run(spec, self._shares, hooks=hooks(spec))
            if result.status == "INTERRUPTED":
                return False
            self.copies.append(Copy(spec.blocked, spec.parameters.seed, result))
        return True

    def rows(self, mode: str, batch: str) -> list[dict[str, Any]]:
        """One row for the unblocked runs and one for each thing blocked, with `COLUMNS`.

        Means and sample standard deviations are over the seeds. `rise` is the held-out loss above that of the unblocked run
        of the same seed. Share and win rate are of all traced steps of the unblocked runs together; they are None where
        several components were blocked at once.
        """
        plain = {c.seed: c for c in self.copies if not c.blocked}
        traced = self._shares.totals([c.result.run for c in plain.values()], mode, batch)
        rows = []
        for names in dict.fromkeys(c.blocked for c in self.copies):
            found = [c for c in self.copies if c.blocked == names]
            rises = [c.held_out - plain[c.seed].held_out for c in found if c.seed in plain] if names else []
            seen = traced.get(names[0]) if len(names) == 1 and names[0] != ROOT else None
            losses, held_out = [c.loss for c in found], [c.held_out for c in found]
            rows.append(
                {
                    "blocked": "+".join(names) or None,
                    "runs": len(found),
                    "loss": _mean(losses),
                    "loss_sd": _spread(losses),
                    "held_out": _mean(held_out),
                    "held_out_sd": _spread(held_out),
                    "accuracy": _mean([c.result.after.get("accuracy", math.nan) for c in found]),
                    "rise": _mean(rises),
                    "rise_sd": _spread(rises),
                    "share": seen.share if seen else None,
                    "foreign_share": seen.foreign_share if seen else None,
                    "win_rate": seen.win_rate if seen else None,
                }
            )
        return rows


def copies_of(specs: Sequence[RunSpec], blocked: Sequence[tuple[str, ...]]) -> list[RunSpec]:
    """For each spec (they differ by their seed) itself, and one copy for each group of components to block.

    All use traceable kernels at every step, so that blocking is the only thing that tells a copy from its original.

    Raises:
        SpecError: a spec does not allow to block, or its workload has no such component: told before anything is trained.
    """
    from gradtrace.service.segments import build, check_blocked, threads
    from gradtrace.service.spec import check_spec

    made = []
    for spec in specs:
        for names in ((), *blocked):
            copy = spec.model_copy(update={"blocked": names, "kernels": "traceable"})
            check_spec(copy)
            made.append(copy)
    if made:
        with threads(specs[0].threads):
            instance = build(specs[0])
            for copy in made[: len(blocked) + 1]:
                check_blocked(copy, instance)
    return made


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None of fewer than two, NaN where one of them is no finite number."""
    if len(values) < 2:
        return None
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
