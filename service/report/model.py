"""What a report says, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]
"""One row of an answer of the library."""


@dataclass(frozen=True, slots=True)
class Series:
    """One component over the drawn steps; all lists are as long as `RunReport.steps`.

    Attributes:
        component: its path.
        share: mass of the traces that cross it over the mass of all traces; None where a step does not have it.
        foreign_share: the part of it that comes from parameters outside.
        win_rate: of the forks where traces could enter it or pass by, how many went in; None where there was none.
    """

    component: str
    share: tuple[float | None, ...]
    foreign_share: tuple[float | None, ...]
    win_rate: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class ComponentGraph:
    """Components, the ways between them, and where to draw them.

    Attributes:
        nodes: names of components; `LOSS` for what belongs to none.
        places: layer and row of each node. Layers lead from the input to the loss; rows are half numbers at least.
        size: number of layers and of rows.
        ways: pairs of positions in `nodes`.
        lines: of each way the places that it is led through, both ends among them.
        shares: of each drawn step, for each way, the mass that crosses it over the mass of all traces.
        folded: depth to which longer names were shortened; None if all are whole.
    """

    nodes: tuple[str, ...]
    places: tuple[tuple[float, float], ...]
    size: tuple[int, float]
    ways: tuple[tuple[int, int], ...]
    lines: tuple[tuple[tuple[float, float], ...], ...]
    shares: tuple[tuple[float, ...], ...]
    folded: int | None = None


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes that carried most at the drawn steps.

    Attributes:
        texts: each route as one line.
        ways: of each route the pairs of nodes of the component graph that it leads over, in order.
        at: of each drawn step (route, share), most mass first.
    """

    texts: tuple[str, ...]
    ways: tuple[tuple[tuple[int, int], ...], ...]
    at: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run.

    Attributes:
        run, workload, experiment, status, reason, started: as the question `runs` has them.
        hyperparameters: name → value as text.
        traced: how many steps were traced in the report's mode on its batch.
        steps, epochs, losses: of the drawn steps.
        components: one a component, the one with the largest foreign share at the end first.
        by_epoch: rows of `components-by-epoch`.
        forks: rows of `win-rates`.
        graph, routes: of the drawn steps.
        parameters: rows of `parameters-at-step` at the last step, with `paths` and `main_share` of `path-stability`.
        non_finite: steps at which NaN or an infinity was met.
        headline: what was seen, in sentences.
        notes: what the reader has to know about the numbers.
    """

    run: str
    workload: str
    experiment: str
    status: str
    reason: str | None
    started: datetime
    hyperparameters: Mapping[str, str]
    traced: int
    steps: tuple[int, ...]
    epochs: tuple[int, ...]
    losses: tuple[float, ...]
    components: tuple[Series, ...]
    by_epoch: tuple[Row, ...]
    forks: tuple[Row, ...]
    graph: ComponentGraph
    routes: Routes
    parameters: tuple[Row, ...]
    non_finite: tuple[int, ...]
    headline: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity of one component over the runs of one setting, in each run's last epoch.

    Attributes:
        values: of each run that has it (position in `Report.runs`, value).
        mean: their mean.
        deviation: their standard deviation (n − 1); None for a single one.
    """

    values: tuple[tuple[int, float], ...]
    mean: float
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs side by side.

    Attributes:
        settings: names of the settings (runs that differ by their seed alone have the same one).
        setting_of: of each run its setting's position.
        differing: hyperparameters that are not the same in all runs.
        components: those that tell runs apart best come first.
        spreads: (measure, component, setting) → numbers; measures are share, foreign_share and win_rate.
        headline: what was seen, in sentences.
    """

    settings: tuple[str, ...]
    setting_of: tuple[int, ...]
    differing: tuple[str, ...]
    components: tuple[str, ...]
    spreads: Mapping[tuple[str, str, int], Spread]
    headline: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A report.

    Attributes:
        title: heading.
        mode, batch: how and on what was traced; the same for all runs.
        points: steps drawn of each run at most.
        made: when.
        runs: at least one.
        comparison: None for a single run.
    """

    title: str
    mode: str
    batch: str
    points: int
    made: datetime
    runs: tuple[RunReport, ...]
    comparison: Comparison | None = field(default=None)
