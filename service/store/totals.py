"""What the rollups of a run sum up, as plain numbers; the same code serves the steps just written and a rebuild.

Values that are not finite are left out of every sum, and the steps that had any are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gradtrace.service.store.keys import component_key, path_hash, route_hash
from gradtrace.tracer.steptrace import StepTrace

SHARE_SUMS = ("mass", "total", "traffic", "own", "foreign", "contested", "won", "flow")
"""Columns of EPOCH_SHARE that are sums over steps; `share` and `visits` are means."""
EPOCH_ARRAYS = ("flow", "peak", "traffic", "mass")


@dataclass
class PathTotal:
    """How often a parameter's strongest trace took a path."""

    steps: int = 0
    mass: float = 0.0
    first: int = 0
    last: int = 0

    def add(self, step: int, mass: float) -> None:
        """Count one step."""
        self.first = min(self.first, step) if self.steps else step
        self.last = max(self.last, step) if self.steps else step
        self.steps += 1
        self.mass += finite(mass)


@dataclass
class RouteTotal:
    """How much of a parameter's traces took a route in an epoch, over the steps at which it was among the kept ones."""

    steps: int = 0
    traffic: int = 0
    mass: float = 0.0
    rank: int = 0
    first: int = 0
    last: int = 0

    def add(self, step: int, traffic: int, mass: float, rank: int) -> None:
        """Count one step."""
        self.first = min(self.first, step) if self.steps else step
        self.last = max(self.last, step) if self.steps else step
        self.rank = min(self.rank, rank) if self.steps else rank
        self.steps += 1
        self.traffic += traffic
        self.mass += finite(mass)


@dataclass
class ShareTotal:
    """A component's shares over an epoch. `share` and `visits` are sums here, and means in the store."""

    steps: int = 0
    share: float = 0.0
    visits: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0, 0.0, 0.0, 0, 0, 0.0])


@dataclass
class EpochTotal:
    """The arrays of a graph summed over an epoch (`peak`: the largest)."""

    steps: int = 0
    finite_losses: int = 0
    loss: float = 0.0
    non_finite: int = 0
    first: int = 0
    last: int = 0
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, step: int, loss: float, non_finite: bool, arrays: dict[str, np.ndarray]) -> None:
        """Add one step."""
        self.first = min(self.first, step) if self.steps else step
        self.last = max(self.last, step) if self.steps else step
        self.steps += 1
        self.non_finite += non_finite
        if math.isfinite(loss):
            self.finite_losses += 1
            self.loss += loss
        self.merge(arrays)

    def merge(self, arrays: dict[str, np.ndarray]) -> None:
        """Add arrays alone."""
        for name, values in arrays.items():
            if values.dtype.kind == "f":
                values = np.where(np.isfinite(values), values, 0.0)
            held = self.arrays.get(name)
            combine = np.maximum if name == "peak" else np.add
            self.arrays[name] = values.copy() if held is None else combine(held, values)


@dataclass
class Totals:
    """Sums over some steps.

    Attributes:
        paths: by (run, mode, batch, parameter, path hash).
        routes: by (run, mode, batch, epoch, parameter, route hash).
        shares: by (run, mode, batch, epoch, component key).
        epochs: by (run, epoch, mode, batch, graph fingerprint).
        steps: step numbers by run.
    """

    paths: dict[tuple[str, str, str, str, str], PathTotal] = field(default_factory=dict)
    routes: dict[tuple[str, str, str, int, str, str], RouteTotal] = field(default_factory=dict)
    shares: dict[tuple[str, str, str, int, str], ShareTotal] = field(default_factory=dict)
    epochs: dict[tuple[str, int, str, str, str], EpochTotal] = field(default_factory=dict)
    steps: dict[str, list[int]] = field(default_factory=dict)

    def add_dominant(self, head: tuple[str, str, str], step: int, parameter: str, path: str, mass: float) -> None:
        """Count a parameter's strongest trace; `head` is (run, mode, batch)."""
        self.paths.setdefault((*head, parameter, path), PathTotal()).add(step, mass)

    def add_route(
        self,
        head: tuple[str, str, str],
        epoch: int,
        step: int,
        parameter: str,
        route: str,
        traffic: int,
        mass: float,
        rank: int,
    ) -> None:
        """Count a route that was among the kept ones of a parameter (`"*"`: of all) at a step."""
        self.routes.setdefault((*head, epoch, parameter, route), RouteTotal()).add(step, traffic, mass, rank)

    def add_share(
        self, head: tuple[str, str, str], epoch: int, component: str, share: float, visits: float, sums: Sequence[float]
    ) -> None:
        """Add a component's row; `sums` are its `SHARE_SUMS`."""
        row = self.shares.setdefault((*head, epoch, component), ShareTotal())
        row.steps += 1
        row.share += finite(share)
        row.visits += finite(visits)
        row.sums = [a + finite(b) for a, b in zip(row.sums, sums, strict=True)]

    def add_arrays(
        self,
        head: tuple[str, str, str],
        epoch: int,
        fingerprint: str,
        step: int,
        loss: float,
        non_finite: bool,
        arrays: dict[str, np.ndarray],
    ) -> None:
        """Add the arrays of one trace."""
        run, mode, batch = head
        total = self.epochs.setdefault((run, epoch, mode, batch, fingerprint), EpochTotal())
        total.add(step, loss, non_finite, arrays)


def totals_of(steps: Iterable[StepTrace]) -> Totals:
    """Sums over `steps`, each of which counts."""
    totals = Totals()
    for step in steps:
        totals.steps.setdefault(step.run, []).append(step.step)
        for trace in step.traces:
            head = (step.run, trace.mode, trace.batch)
            graph = trace.graph
            whole = math.fsum(finite(p.mass) for p in trace.parameters)
            for p in trace.parameters:
                if p.strongest is not None:
                    path = path_hash(graph.fingerprint, p.strongest.vertices)
                    totals.add_dominant(head, step.step, p.parameter, path, p.strongest.mass)
            for r in trace.routes:
                taken = (r.traffic, r.mass, r.rank)
                totals.add_route(head, step.epoch, step.step, r.parameter, route_hash(r.route), *taken)
            for c in trace.components:
                sums = (c.mass, whole, c.traffic, c.own, c.foreign, c.contested, c.won, c.flow)
                key = component_key(graph.architecture_hash, c.component)
                totals.add_share(head, step.epoch, key, c.share, c.visits, sums)
            arrays = {name: getattr(trace, name) for name in EPOCH_ARRAYS}
            fingerprint = graph.fingerprint
            totals.add_arrays(head, step.epoch, fingerprint, step.step, trace.loss, trace.non_finite, arrays)
    return totals


def finite(value: float) -> float:
    """`value`, or 0 where it is NaN or infinite. Whole numbers stay whole."""
    return value if math.isfinite(value) else 0.0
