"""What one traced step yields: plain data, ready for a sink.

The words are those of `docs/semantics.md`. Per-edge arrays run by `Edge.idx` of the batch's `Graph`. Gradients and
masses are unscaled (a gradient scaler's factor is taken out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, overload

import numpy as np

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.scalargraph import ScalarTrace
from gradtrace.tracer.spreadtrace import SpreadTrace

MODES = ("greedy", "maxprod")
BATCHES = ("training", "probe")
ALL_PARAMETERS = "*"

_T = TypeVar("_T")


class OnDemand(Sequence[_T]):
    """A sequence that is spelt out when it is first looked at: most rows and paths of a step are only counted.

    Equal to the tuple of its elements. Numbers may come as an array, and stay one: there can be millions in a step.
    """

    __slots__ = ("_known", "_make")

    def __init__(self, make: Callable[[], tuple[_T, ...] | np.ndarray]) -> None:
        self._make: Callable[[], tuple[_T, ...] | np.ndarray] | None = make
        self._known: tuple[_T, ...] | np.ndarray = ()

    def _held(self) -> tuple[_T, ...] | np.ndarray:
        make = self._make  # another thread may be at it too
        if make is not None:
            self._known = make()
            self._make = None
        return self._known

    def _values(self) -> tuple[_T, ...]:
        held = self._held()
        return held if isinstance(held, tuple) else tuple(held.tolist())

    def __len__(self) -> int:
        return len(self._held())

    def __iter__(self) -> Iterator[_T]:
        return iter(self._values())

    @overload
    def __getitem__(self, at: int) -> _T: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[_T, ...]: ...
    def __getitem__(self, at: int | slice) -> _T | tuple[_T, ...]:
        held = self._held()
        if isinstance(held, tuple):
            return held[at]
        found = held[at].tolist()
        return tuple(found) if isinstance(at, slice) else found

    def __eq__(self, other: object) -> bool:
        return self._values() == (other._values() if isinstance(other, OnDemand) else other)

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return repr(self._values())

    def __reduce__(self) -> tuple[type[tuple[_T, ...]], tuple[tuple[_T, ...]]]:
        return tuple, (self._values(),)


@dataclass(frozen=True, slots=True)
class DominantPath:
    """The trace of the strongest scalar (largest |gradient|) of one parameter tensor.

    Attributes:
        scalar: flat index of that scalar in the parameter.
        vertices: `Vertex.idx` of the operators that the trace crosses, from the first one to the loss.
        index: per operator crossed, the flat index of the scalar in the operator's output.
        weight: per operator crossed, the signed local partial on the edge from the previous scalar.
        gradient: per operator crossed, the signed gradient of the scalar in its output.
        parameter_gradient: signed gradient of the parameter scalar.
        mass: |parameter_gradient|.
        share: `mass` over the whole mass of the parameter tensor, in [0, 1].
        margin: least ratio of winner to runner-up on the way, ≥ 1; `inf` where there was never a second candidate.
        concentration: |product of the weights| over |parameter_gradient|.
        example: position in the batch that the trace goes through, or None where the tracer cannot tell.
        time: first repetition (time step) that the trace goes through, or None where nothing repeats.
    """

    scalar: int
    vertices: tuple[int, ...]
    index: Sequence[int]
    weight: Sequence[float]
    gradient: Sequence[float]
    parameter_gradient: float
    mass: float
    share: float
    margin: float
    concentration: float
    example: int | None = None
    time: int | None = None


@dataclass(frozen=True, slots=True)
class RouteShare:
    """How much of a parameter's (or, with parameter `"*"`, of all parameters') traces takes one route.

    Attributes:
        parameter: name of the parameter tensor, or `"*"` for all.
        route: the route as tokens: component paths, `"("`, `")+"`, and a path followed by `"+"` as one token
            (`("embed", "(", "lstm.l0.carry", "lstm.l0.cell", ")+", "head")`); None for the sum of all routes beyond
            the top K ("other"). Operators that belong to no component are left out.
        traffic: number of traces.
        mass: sum of |gradient| of the parameter scalars whose traces take it.
        share: `mass` over the mass of all traces of `parameter`, in [0, 1]; 0 where that is 0.
        rank: 1 for the route with most mass; the "other" row comes last.
    """

    parameter: str
    route: tuple[str, ...] | None
    traffic: int
    mass: float
    share: float
    rank: int

    @property
    def text(self) -> str:
        """The route as one line (`"embed (lstm.l0.carry lstm.l0.cell)+ head"`)."""
        return "other" if self.route is None else route_text(self.route)


@dataclass(frozen=True, slots=True)
class ParameterTrace:
    """All traces of one parameter tensor in short.

    Attributes:
        parameter: name; tied parameters are one tensor under the first name.
        vertex: `Vertex.idx` of the parameter.
        shape: shape of the parameter tensor.
        traffic: number of live traces; `traffic + dead + unread` is the number of scalars.
        mass: sum of |gradient| over the live traces.
        dead: scalars all of whose candidates are zero.
        unread: scalars that no operator read.
        non_finite: scalars whose gradient is NaN or ±inf (these add no mass).
        strongest: the trace of the scalar with the largest |gradient|, or None if no trace is live.
    """

    parameter: str
    vertex: int
    shape: tuple[int, ...]
    traffic: int
    mass: float
    dead: int
    unread: int
    non_finite: int
    strongest: DominantPath | None


@dataclass(frozen=True, slots=True)
class ComponentShare:
    """How much of all traces crosses one component (its descendants included).

    Attributes:
        component: path of the component.
        share: `mass` over the mass of all traces, in [0, 1].
        mass: sum of |gradient| of the parameter scalars whose traces cross it.
        traffic: number of traces that cross it.
        visits: mean number of separate visits (entries) per trace, over all live traces.
        own: the part of `mass` from parameters inside the component.
        foreign: the part of `mass` from parameters outside; `own + foreign == mass`.
        contested: departures of traces from vertices that had a non-zero candidate inside and one outside.
        won: those of them that went inside; `won <= contested`.
        flow: sum of `flow` over the operator edges that enter it.
        times: the time steps in which most of `mass` begins (at most 8, the first one leading), see `DominantPath.time`.
        time_mass: the mass that begins in each of them; what is left of `mass` begins in others, or in none.
        examples, example_mass: likewise for positions in the batch, see `DominantPath.example`.
    """

    component: str
    share: float
    mass: float
    traffic: int
    visits: float
    own: float
    foreign: float
    contested: int
    won: int
    flow: float
    times: tuple[int, ...] = ()
    time_mass: tuple[float, ...] = ()
    examples: tuple[int, ...] = ()
    example_mass: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class BatchTrace:
    """The traces of one batch in one mode.

    Attributes:
        mode: `"greedy"` or `"maxprod"`.
        batch: `"training"` or `"probe"`.
        graph: structure that the arrays refer to.
        loss: value of the loss on this batch.
        flow: float64 [edges], sum of |w·g_u| over the scalar edges of each operator edge (equal for all modes).
        peak: float64 [edges], the largest |w·g_u|.
        traffic: int64 [edges], number of traces that cross each operator edge.
        mass: float64 [edges], sum of |gradient| of the parameter scalars whose traces cross it.
        dominant: bool [edges], whether the edge is the dominant way out of its source.
        non_finite: whether NaN or ±inf was met in loss, gradients or weights.
        consistent: whether Σ w·g_u = g_v held wherever it was checked (False where a tensor hook or a custom backward breaks it).
        parameters: one row a parameter tensor, in the order of the model.
        components: one row a component, in the order of `graph.components`.
        routes: top routes by mass, overall and per parameter.

    All numbers are worked out with the step; rows are spelt out of them (`OnDemand`) by whoever looks first.
    """

    mode: str
    batch: str
    graph: Graph
    loss: float
    flow: np.ndarray
    peak: np.ndarray
    traffic: np.ndarray
    mass: np.ndarray
    dominant: np.ndarray
    non_finite: bool
    parameters: Sequence[ParameterTrace]
    components: Sequence[ComponentShare]
    routes: Sequence[RouteShare]
    consistent: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class StepTrace:
    """Everything that is kept of one traced step of one run.

    Attributes:
        run: id of the run.
        step: number of the optimizer step, from 0.
        epoch: number of the pass over the data, from 0.
        loss: loss of the training step.
        traces: one or more, each (mode, batch) at most once; training before probe.
        spreads: likewise, for the modes that sum over all paths.
        watched: names of parameters whose path arrays are to be stored at every step, whatever their rank.
        scalars: at scalar granularity, the scalar graph of each batch; else none.
    """

    run: str
    step: int
    epoch: int
    loss: float
    traces: tuple[BatchTrace, ...]
    watched: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What the user should know about this step ("Σ w·g ≠ g behind a hook on ..."), one sentence each."""
    spreads: tuple[SpreadTrace, ...] = ()
    scalars: tuple[ScalarTrace, ...] = ()

    @property
    def non_finite(self) -> bool:
        """Whether any of the traces met NaN or ±inf."""
        return any(t.non_finite for t in self.traces) or any(t.non_finite for t in self.spreads)

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graph of each of its traces, sums and scalar graphs, in this order; the same one may come several times."""
        parts: tuple[BatchTrace | SpreadTrace | ScalarTrace, ...] = (*self.traces, *self.spreads, *self.scalars)
        return tuple(part.graph for part in parts)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of one workload, as a sink is told of it.

    Attributes:
        id: unique, made by the service (`"char-lstm-20261123-231501-7f3a"`).
        workload: name of the workload.
        experiment: name of the experiment that the run belongs to.
        parameters: hyperparameters, JSON scalars only.
        modes: modes traced, those that sum over all paths included.
    """

    id: str
    workload: str
    experiment: str
    parameters: dict[str, str | int | float | bool | None]
    modes: tuple[str, ...] = ("greedy",)


def route_text(route: tuple[str, ...]) -> str:
    """A tokenised route as one line.

    >>> route_text(("embed", "(", "recurrent", "output_gate", ")+", "head"))
    'embed (recurrent output_gate)+ head'
    """
    text = " ".join(route)
    return text.replace("( ", "(").replace(" )+", ")+")
