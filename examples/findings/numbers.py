"""What is worked out from the runs: means over seeds with their 95 % intervals, and the first step at which something is so."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean over `n` seeds, and half the width of its 95 % interval (Student's t; NaN for a single seed)."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half

    def __format__(self, spec: str) -> str:
        if self.n == 0:
            return "never"
        half = format(self.half, spec) if math.isfinite(self.half) else "?"
        return f"{format(self.mean, spec).removesuffix('%')} ± {half}".replace("%", " %")


def spread(values: Iterable[float | None]) -> Spread:
    """Of numbers, one a seed; None and NaN are left out."""
    held = [v for v in values if v is not None and math.isfinite(v)]
    if not held:
        return Spread(math.nan, math.nan, 0)
    if len(held) == 1:
        return Spread(held[0], math.nan, 1)
    half = float(stats.t.ppf(0.975, len(held) - 1)) * statistics.stdev(held) / math.sqrt(len(held))
    return Spread(statistics.fmean(held), half, len(held))


def first(steps: Sequence[int], values: Sequence[float | None], holds: Callable[[float], bool]) -> int | None:
    """The first step from which on a value is so at every later traced step too; None where there is none."""
    found = None
    for step, value in zip(steps, values, strict=True):
        if value is None or not holds(value):
            found = None
        elif found is None:
            found = step
    return found


def paired(a: Iterable[float | None], b: Iterable[float | None]) -> Spread:
    """Spread of a − b over seeds, pair by pair; pairs with a None are left out."""
    return spread(x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None)


class Runs:
    """The records of a finding, by arm; each arm's in the order of the seeds."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._by_arm: dict[str, list[Record]] = {}
        for record in sorted(records, key=lambda r: r["seed"]):
            self._by_arm.setdefault(record["arm"], []).append(record)

    def of(self, arm: str) -> list[Record]:
        """Records of an arm."""
        return self._by_arm[arm]

    def held_out(self, arm: str, measure: str) -> list[float]:
        """A measure on held-out examples after training, of each seed."""
        return [r["held_out"][measure] for r in self.of(arm)]

    def series(self, arm: str, component: str, quantity: str, mode: str = "greedy") -> list[list[float | None]]:
        """A quantity of a component at every traced step, of each seed."""
        return [r["traces"][mode][component][quantity] for r in self.of(arm)]

    def steps(self, arm: str) -> list[int]:
        """The traced steps."""
        return list(self.of(arm)[0]["steps"])

    def at(self, arm: str, component: str, quantity: str, where: int, mode: str = "greedy") -> Spread:
        """Spread over seeds at one traced step (0 the first, −1 the last)."""
        return spread(line[where] for line in self.series(arm, component, quantity, mode))

    def cost(self, arm: str, blocked: str) -> Spread:
        """What accuracy an arm loses by blocking, seed by seed; seeds of one of the two alone are left out."""
        whole, cut = ({r["seed"]: r["held_out"]["accuracy"] for r in self.of(name)} for name in (arm, blocked))
        seeds = sorted(whole.keys() & cut.keys())
        return paired([whole[s] for s in seeds], [cut[s] for s in seeds])

    def mean_over(self, arm: str, component: str, quantity: str, mode: str = "greedy") -> list[float]:
        """Mean over all traced steps, of each seed."""
        return [
            statistics.fmean(held) if (held := [v for v in line if v is not None]) else math.nan
            for line in self.series(arm, component, quantity, mode)
        ]
