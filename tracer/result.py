"""`Trace`: what `trace` returns, and what can be asked of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gradtrace.tracer.capture import Captured
from gradtrace.tracer.errors import LookupTraceError
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.kernels import tree
from gradtrace.tracer.routes import collapse
from gradtrace.tracer.scalargraph import ScalarGraph, ScalarTrace
from gradtrace.tracer.solve import Solved
from gradtrace.tracer.spread import Spread, Spreads
from gradtrace.tracer.spreadtrace import SPREAD_MODES, SpreadTrace
from gradtrace.tracer.steptrace import BatchTrace, RouteShare, route_text
from gradtrace.tracer.structure import ParameterInfo
from gradtrace.tracer.summary import summarise
from gradtrace.tracer.table import Table


@dataclass(frozen=True, slots=True)
class Hop:
    """One operator scalar that a trace crosses.

    Attributes:
        op: autograd's node name without its `BackwardN` ending.
        index: index tuple into that operator's output.
        component: path of the innermost component of that scalar, or None.
        weight: w(u, v), the partial on the edge from the previous scalar.
        gradient: g_u of this scalar.
        vertex: `Vertex.idx` of the operator in the trace's graph.
    """

    op: str
    index: tuple[int, ...]
    component: str | None
    weight: float
    gradient: float
    vertex: int


@dataclass(frozen=True, slots=True)
class Path:
    """The trace of one scalar: from the first operator that it crosses to the loss.

    Attributes:
        hops: the scalars crossed, in order; the last one is the loss.
        gradient: gradient of the scalar at which the trace starts.
        margin: least ratio of winner to runner-up on the way (`inf` where nothing competed).
        concentration: |product of the weights| over |gradient|.
        route: the components crossed, repeats collapsed, as one line.
    """

    hops: tuple[Hop, ...]
    gradient: float
    margin: float
    concentration: float
    route: str

    @property
    def parameter_gradient(self) -> float:
        """Same as `gradient`."""
        return self.gradient


class Trace:
    """One traced step. Tables are lists of rows (`row.share` and `row["share"]`), in the first mode unless one is named."""

    def __init__(
        self,
        captured: Captured,
        modes: Sequence[str],
        solved: dict[str, Solved],
        spreads: Spreads | None,
        loss: float,
        top_routes: int,
        scale: float,
        batch_size: int | None,
        batch: str,
        scalars: ScalarGraph | None = None,
    ) -> None:
        self._scalars = scalars
        self._captured, self._plan, self._modes = captured, captured.plan, tuple(modes)
        self._solved, self._spreads = solved, spreads
        self.loss = loss
        self._scale, self._batch = scale, batch
        # Now: the weights may be others by the time that somebody asks.
        self._summaries = {
            mode: summarise(found, loss, batch, top_routes, scale, batch_size) for mode, found in solved.items()
        }
        self._spread_traces: dict[str, SpreadTrace] = {}

    @property
    def graph(self) -> Graph:
        """The operator graph."""
        return self._plan.graph

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes in which it was traced, as they were asked for."""
        return self._modes

    @property
    def closed(self) -> int:
        """Operators traced by a closed rule."""
        return len(self._plan.operators) - len(self._plan.probed)

    @property
    def probed(self) -> int:
        """Operators traced by probing."""
        return len(self._plan.probed)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about this trace, one sentence each."""
        if self._plan.consistent is False:
            return (
                "Σ w·g differs from g at some tensor: a tensor hook or a custom backward changes gradients on the way.",
            )
        return ()

    def batch_trace(self, mode: str | None = None) -> BatchTrace:
        """Everything that a sink keeps of this batch in one mode that follows paths."""
        return self._summaries[self._path_mode(mode)]

    def path(
        self, start: str | torch.Tensor, index: int | tuple[int, ...] = (), mode: str | None = None
    ) -> Path | None:
        """The trace of one scalar, or None if it is dead or unread.

        Args:
            start: name of a parameter, the parameter, or any tensor that the loss's graph recorded.
            index: index tuple into it, or a flat index.
            mode: mode to answer in.

        Raises:
            LookupTraceError: no such parameter, index or recorded tensor.
            StaleTraceError: it was not asked for before, and weights (or the batch) were changed in place since the trace.
        """
        solved = self._solved[self._path_mode(mode)]
        tensor, flat = self._locate(start, index)
        if tensor is None:
            return None
        ids = int(solved.plan.base[tensor]) + flat
        solved.grow(np.array([ids], np.int64))
        columns = solved.tree.trace(solved.tree.row_of(ids))
        if columns[0, tree.LENGTH] < 0:
            return None
        return self._as_path(solved, columns, tensor, flat)

    def _as_path(self, solved: Solved, columns: np.ndarray, tensor: int, flat: int) -> Path:
        plan, layout = solved.plan, self._plan.layout
        hops = []
        for at in range(1, len(columns)):
            scalar = int(columns[at, tree.ID])
            owner = int(np.searchsorted(plan.base, scalar, side="right")) - 1
            inside = int(columns[at, tree.INDEX])
            vertex = self.graph.vertices[layout.vertex_of_tensor[owner]]
            numbers, inner = layout.parts[owner]
            number = numbers[(inside // max(inner, 1)) % len(numbers)]
            shape = self._plan.shapes[owner]
            hops.append(
                Hop(
                    vertex.op,
                    tuple(int(i) for i in np.unravel_index(inside, shape)) if shape else (),
                    layout.paths[number] if number >= 0 else None,
                    float(columns[at - 1, tree.PARTIAL]),
                    self._gradient(solved, owner, inside),
                    vertex.idx,
                )
            )
        gradient = self._gradient(solved, tensor, flat)
        product = float(columns[0, tree.LOG_PRODUCT])
        crossed: list[str] = []
        previous: str | None = None
        for hop in hops:
            if hop.component is not None and hop.component != previous:
                crossed.append(hop.component)
            previous = hop.component
        return Path(
            tuple(hops),
            gradient,
            float(columns[0, tree.LEAST_MARGIN]),
            math.exp(product - math.log(abs(gradient))) if gradient and math.isfinite(gradient) else math.inf,
            route_text(collapse(crossed)),
        )

    def _gradient(self, solved: Solved, tensor: int, index: int) -> float:
        return solved.gradient(tensor, index) / self._scale

    def spread_trace(self, mode: str | None = None) -> SpreadTrace:
        """Everything that a sink keeps of this batch in one mode that sums over all paths."""
        mode, spreads = self._spread_mode(mode)
        if mode not in self._spread_traces:
            parameters, components = spreads.parameter_rows(), spreads.component_rows()
            if mode != "entropy":
                parameters = tuple(replace(row, entropy=None) for row in parameters)
                components = tuple(replace(row, entropy=None) for row in components)
            broken = spreads.non_finite or not math.isfinite(self.loss)
            self._spread_traces[mode] = SpreadTrace(
                mode, self._batch, self.graph, self.loss, broken, parameters, components
            )
        return self._spread_traces[mode]

    def spread(self, start: str | torch.Tensor, mode: str | None = None) -> Spread:
        """All paths of every scalar of a tensor: their summed weights, how much of it cancels, and their entropy.

        Args:
            start: name of a parameter, the parameter, or any tensor that the loss's graph recorded.
            mode: `"entropy"` or `"abs-sum"`; the first of them that was traced, if not given.

        Raises:
            LookupTraceError: no such parameter or recorded tensor, or neither mode was traced.
        """
        mode, spreads = self._spread_mode(mode)
        if isinstance(start, torch.Tensor):
            ids = self._ids_of(start).numpy()
        else:
            info = self._parameter(start)
            ids = np.full(info.shape, -1)
            if info.tensor is not None:
                ids = int(self._plan.arrays.base[info.tensor]) + np.arange(ids.size).reshape(info.shape)
        found = spreads.of(ids)
        return found if mode == "entropy" else replace(found, entropy=None)

    def scalar_graph(self) -> ScalarGraph:
        """Every scalar, weighted edge, gradient and pointer, as columns; of a trace with `granularity="scalar"`.

        Raises:
            LookupTraceError: the trace has another granularity.
        """
        if self._scalars is None:
            raise LookupTraceError(
                "This trace was made at the granularity of operators; the scalar graph is gone with its backward. Trace anew "
                "with trace(..., granularity='scalar')."
            )
        return self._scalars

    def scalar_trace(self) -> ScalarTrace:
        """The scalar graph as a sink keeps it.

        Raises:
            LookupTraceError: the trace has another granularity.
        """
        return ScalarTrace(self._batch, self.graph, self.scalar_graph())

    def components(self, mode: str | None = None) -> Table:
        """Rows: component, share, mass, traffic, visits, own, foreign, contested, won, flow.

        In modes `"entropy"` and `"abs-sum"`: component, share, abs_sum, own, foreign, coherence, entropy.
        """
        if self._mode(mode) in SPREAD_MODES:
            return Table.of(self.spread_trace(mode).components)
        return Table.of(self.batch_trace(mode).components)

    def parameters(self, mode: str | None = None) -> Table:
        """Rows: parameter, vertex, shape, traffic, mass, dead, unread, non_finite, strongest, routes.

        In modes `"entropy"` and `"abs-sum"`: parameter, vertex, shape, live, mass, abs_sum, coherence, entropy.
        """
        if self._mode(mode) in SPREAD_MODES:
            return Table.of(self.spread_trace(mode).parameters)
        batch = self.batch_trace(mode)
        routes = [[r for r in batch.routes if r.parameter == p.parameter] for p in batch.parameters]
        return Table.of(batch.parameters, routes=routes)

    def routes(self, k: int = 20, mode: str | None = None, parameter: str = "*") -> Table:
        """The first k routes by mass (and "other"): parameter, route, traffic, mass, share, rank, text."""
        rows = first_routes([r for r in self.batch_trace(mode).routes if r.parameter == parameter], k)
        return Table.of(rows, text=[r.text for r in rows])

    def edges(self, mode: str | None = None) -> Table:
        """Operator edges: idx, source, target, slot, flow, peak, traffic, mass, dominant."""
        batch = self.batch_trace(mode)
        columns = {name: getattr(batch, name).tolist() for name in ("flow", "peak", "traffic", "mass", "dominant")}
        return Table.of(batch.graph.edges, **columns)

    def vertices(self) -> Table:
        """Operators, parameters and constants: idx, kind, op, name, component, shape, time."""
        return Table.of(self.graph.vertices)

    def _mode(self, mode: str | None) -> str:
        if mode is None:
            return self._modes[0]
        if mode not in self._modes:
            raise LookupTraceError(f"This trace has no mode {mode!r}; it has {', '.join(self._modes)}.")
        return mode

    def _path_mode(self, mode: str | None) -> str:
        mode = self._mode(mode)
        if mode in SPREAD_MODES:
            raise LookupTraceError(
                f"Mode {mode!r} sums over all paths and follows none: there are no paths, routes or edges in it, only "
                f"parameters({mode!r}), components({mode!r}) and spread(). Trace 'greedy' or 'maxprod' too."
            )
        return mode

    def _spread_mode(self, mode: str | None) -> tuple[str, Spreads]:
        if mode is None:
            mode = next((m for m in self._modes if m in SPREAD_MODES), None)
        if self._spreads is None or mode is None or self._mode(mode) not in SPREAD_MODES:
            raise LookupTraceError(
                f"Sums over all paths were not traced; this trace has {', '.join(self._modes)}. "
                f"Pass mode=({self._modes[0]!r}, 'entropy') to trace()."
            )
        return mode, self._spreads

    def _locate(self, start: Any, index: int | tuple[int, ...]) -> tuple[int | None, int]:
        """(plan tensor, flat index) of a scalar; tensor None for a parameter that nothing read."""
        if isinstance(start, torch.Tensor):
            return self._locate_tensor(start, index)
        found = self._parameter(start)
        return found.tensor, flat_index(index, found.shape, found.name)

    def _parameter(self, name: Any) -> ParameterInfo:
        first = self._plan.layout.aliases.get(name, name)
        found = next((p for p in self._plan.layout.parameters if p.name == first), None)
        if found is None:
            names = [p.name for p in self._plan.layout.parameters]
            raise LookupTraceError(f"No traced parameter is called {name!r}. There are: {', '.join(names) or 'none'}.")
        return found

    def _ids_of(self, start: torch.Tensor) -> torch.Tensor:
        ids = self._captured.find(start)
        if ids is None:
            raise LookupTraceError(
                f"This tensor (shape {tuple(start.shape)}) is no traced parameter and was not recorded on the way to the loss."
            )
        return ids

    def _locate_tensor(self, start: torch.Tensor, index: int | tuple[int, ...]) -> tuple[int | None, int]:
        ids = self._ids_of(start)
        flat = flat_index(index, tuple(start.shape), "the tensor")
        scalar = int(ids.reshape(-1)[flat])
        if scalar < 0:
            return None, 0
        base = self._plan.arrays.base
        tensor = int(np.searchsorted(base, scalar, side="right")) - 1
        return tensor, scalar - int(base[tensor])


def first_routes(rows: list[RouteShare], k: int) -> list[RouteShare]:
    """The first k rows; what lies beyond is summed into one "other" row, so that totals stay whole."""
    rest = [r for r in rows if r.rank > k or r.route is None]
    kept = [r for r in rows if r not in rest]
    if not rest:
        return kept
    traffic, mass = sum(r.traffic for r in rest), sum(r.mass for r in rest)
    return [*kept, RouteShare(rest[0].parameter, None, traffic, mass, sum(r.share for r in rest), len(kept) + 1)]


def flat_index(index: int | tuple[int, ...], shape: tuple[int, ...], name: str) -> int:
    """Flat position of an index tuple (or of a flat index); refuses what lies outside."""
    try:
        if isinstance(index, int):
            count = math.prod(shape)
            if not -count <= index < count:
                raise ValueError
            return index % count
        wrapped = tuple(i % n if -n <= i < n else n for i, n in zip(index, shape, strict=True))
        return int(np.ravel_multi_index(wrapped, shape)) if shape else 0
    except ValueError:
        raise LookupTraceError(f"Index {index!r} does not fit {name}, whose shape is {shape}.") from None
