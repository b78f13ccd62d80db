"""One captured step in one mode, traced: the compiled passes in order, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, Self

import numpy as np
import torch

from gradtrace.tracer.capture import Captured
from gradtrace.tracer.errors import StaleTraceError
from gradtrace.tracer.first_use import announce
from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.kernels import passes, shares
from gradtrace.tracer.kernels.component_sets import COUNT, FULL, new_table
from gradtrace.tracer.kernels.flows import flows
from gradtrace.tracer.kernels.sequences import leaf_rows, sequences
from gradtrace.tracer.kernels.state import NON_FINITE, PATH, USED, LeafArrays, PlanArrays, StepArrays
from gradtrace.tracer.path_tree import PathTree
from gradtrace.tracer.places import Places, component_places
from gradtrace.tracer.workspace import Known, Workspace

_PARALLEL = 20_000_000
"""Products in the leaves' contractions from which on they are shared out over two threads."""


@dataclass
class Solved:
    """The traces of one step in one mode, by the plan's numbers.

    Attributes:
        use_traffic, use_mass, flow, peak: per use.
        parameters: float64 [learnt tensors, 4], see `kernels.state`; non_finite: their scalars without a finite gradient.
        visits: float64 [., 4] of (group, sequence, traces, mass).
        known: what the numbers of sequences and paths stand for.
        components: totals per component of the graph: mass, own (float64), traffic, entries, contested, won (int64).
        gradients: int64 [tensors], addresses of the gradients in the compute dtype (0: none).
        any_non_finite: whether any gradient or candidate was NaN or ±inf.
        tree: traces looked at in full.
        begun: where traces begin, by component; None where nothing tells.
        read: tensors of the step that are read where they lie, not from a copy, with their versions.
    """

    mode: str
    captured: Captured
    plan: PlanArrays
    state: StepArrays
    like: np.ndarray
    use_traffic: np.ndarray
    use_mass: np.ndarray
    flow: np.ndarray
    peak: np.ndarray
    parameters: np.ndarray
    non_finite: np.ndarray
    visits: np.ndarray
    components: dict[str, np.ndarray]
    known: Known
    gradients: np.ndarray
    any_non_finite: bool
    keep: list[Any]
    tree: PathTree
    begun: Places | None
    read: list[tuple[torch.Tensor, int]]

    def grow(self, starts: np.ndarray) -> None:
        """Have the traces of these scalars in the tree.

        Raises:
            StaleTraceError: one of them is not there yet, and a tensor that it would be worked out from was changed.
        """
        if any(t._version != version for t, version in self.read) and any(
            self.tree.row_of(int(start)) < 0 for start in starts
        ):
            raise StaleTraceError(
                "A tensor of this step (a weight, or the batch) was changed in place since it was traced, as an optimizer does, so "
                "further paths cannot be worked out any more: they would be those of other values. Ask for paths before that, or "
                "trace anew; rows, and paths asked for before, are kept."
            )
        self.tree.grow(starts, self.plan, self.state, self.gradients, self.like)
        workspace = self.captured.plan.workspace
        if workspace is not None:  # the next step's tree will be about as large
            workspace.tree_room = max(workspace.tree_room, len(self.tree.columns))

    def gradient(self, tensor: int, index: int) -> float:
        """The gradient of one scalar of a tensor, still scaled; 0 where autograd had none."""
        return float(passes.element(self.gradients[tensor], index, self.like)) if self.gradients[tensor] else 0.0


def solve(captured: Captured, mode: str, batch_size: int | None = None) -> Solved:
    """Trace a captured step (its backward has run) in one mode; `batch_size` tells examples apart, where it is known."""
    plan = captured.plan
    count = int(plan.arrays.base[-1] + plan.arrays.size[-1])
    work, plan.workspace = plan.workspace or Workspace(count, plan.leaf_scalars), None
    work.tidy()
    solved = None
    while solved is None:
        solved = _attempt(captured, mode, work, batch_size)
    plan.workspace = work  # not put back if the attempt raised: half-marked arrays serve nobody
    return solved


def _attempt(captured: Captured, mode: str, work: Workspace, batch_size: int | None) -> Solved | None:
    plan = captured.plan
    doubled = mode != "greedy" or captured.doubled
    dtype = torch.float64 if doubled else torch.float32
    like = np.empty(0, np.float64 if doubled else np.float32)
    announce(like)
    keep: list[Any] = []
    pointers = addresses(captured.tensors, plan.strides, dtype, keep)
    h_address = addresses(captured.outputs, None, dtype, keep)
    arrays = plan.arrays._replace(uses=captured.uses)
    kept = np.empty(plan.leaf_scalars, like.dtype)
    keep.append(kept)
    passes.keep_leaves(h_address, arrays, kept, like)
    greedy_h = h_address.copy()
    largest = float(torch.finfo(dtype).max)
    best = work.best(like.dtype)
    tensors = len(arrays.base)

    def state() -> StepArrays:
        contests = new_table(work.capacity)
        return StepArrays(
            pointers, h_address, np.zeros(tensors, np.int64), best, work.onward_id, work.via_use, work.slot, work.ident,
            work.onward, work.traffic, work.link, work.mass, np.full(tensors, -1, np.int32), np.zeros(tensors, np.int64),
            np.zeros(2, np.int64),
            np.zeros(plan.most_tracked, np.int32), np.empty(0, np.int64 if doubled else np.int32), np.zeros(2, np.int64),
            new_table(work.capacity), contests, np.zeros(contests[2].shape[0], np.int64), largest,
        )  # fmt: skip

    main = state()
    learnt = plan.learnt
    leaf = LeafArrays(
        learnt, kept, plan.layout.group_start, plan.layout.group_count, plan.layout.group_inner, work.entry_at,
        work.entry_slot, work.entry_traffic, work.entry_mass, np.zeros((len(plan.layout.groups), 2), np.int64),
        np.empty((learnt.size, 4)), np.zeros(learnt.size, np.int64),
    )  # fmt: skip
    flow, peak = np.zeros(len(arrays.uses)), np.zeros(len(arrays.uses))
    order = flow_order(arrays, pointers)
    clean = passes.all_finite(greedy_h, arrays, like)
    states = [main]
    if mode == "maxprod":
        flows(order, arrays, main, flow, peak, like)
        arrays.uses[:, L.VALUES] = -1
        t = np.zeros(work.scalars, like.dtype)
        keep.append(t)
        h_address[:] = t.ctypes.data + arrays.base * t.itemsize
        passes.values(arrays, main, t, like)
    use_traffic, use_mass = np.zeros(len(arrays.uses), np.int64), np.zeros(len(arrays.uses))
    with _Aside() as aside:
        if mode != "maxprod":
            here, there = _halves(plan.leaf_costs, learnt)
            if there.size:
                other = state()
                states.append(other)
                aside.start(
                    partial(passes.leaves, there, arrays, other, like),
                    partial(flows, order, arrays, other, flow, peak, like),
                )
            else:
                flows(order, arrays, main, flow, peak, like)
            passes.leaves(here, arrays, main, like)
            aside.leaves_done()
        passes.forward(arrays, main, leaf, mode == "maxprod", use_traffic, use_mass, like)
    sequences(arrays, main, plan.vertex_of, work.into, work.path, work.known.sequences, work.known.paths)
    came_to = leaf.rows[:, PATH].astype(np.int64)
    leaf.rows[:, PATH] = np.where(came_to >= 0, work.path[np.maximum(came_to, 0)], -1)
    visits = _visits(leaf, work)
    places = None if visits is None else component_places(plan, arrays, main, work, visits, batch_size)
    shares.leave(work.slot, work.ident, main.counts[USED])
    if visits is None or any(s.set_table[4][FULL] or s.contest_table[4][FULL] for s in states):
        work.capacity *= 4
        return None
    return Solved(
        mode, captured, arrays, main, like, use_traffic, use_mass, flow, peak, leaf.rows, leaf.non_finite, visits,
        _component_totals(captured, visits, work, states), work.known, greedy_h,
        not clean or any(s.meters[NON_FINITE] for s in states), keep, PathTree(arrays.base, work.tree_room), places,
        _read_in_place(captured.tensors, pointers),
    )  # fmt: skip


def _read_in_place(tensors: list[torch.Tensor | None], pointers: np.ndarray) -> list[tuple[torch.Tensor, int]]:
    return [
        (tensor, tensor._version)
        for tensor, at in zip(tensors, pointers.tolist(), strict=False)  # without tensors there still is one pointer
        if tensor is not None and at == tensor.data_ptr() and not tensor.is_inference()
    ]


def addresses(
    tensors: list[torch.Tensor | None],
    strides: list[tuple[int, ...] | None] | None,
    dtype: torch.dtype,
    keep: list[Any],
) -> np.ndarray:
    """Address of every tensor (0: None) in the wanted dtype and layout, a copy where it differs; kept alive in `keep`.

    A copy that several ask for (the transposed weight of every step of a recurrence) is made once.
    """
    found: list[int] = []
    kept: list[torch.Tensor] = []
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    for tensor, wanted in zip_longest(tensors, strides or ()):
        if tensor is None:
            found.append(0)
            continue
        if not (
            tensor.dtype is dtype
            and (tensor.is_contiguous() if wanted is None else tensor.stride() == wanted)
            and tensor.is_cpu
        ):
            key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, wanted)
            if key not in copies:
                copies[key] = _as_wanted(tensor.detach(), wanted, dtype)
            tensor = copies[key]
        kept.append(tensor)
        found.append(tensor.data_ptr())
    keep.append(kept)
    return np.array(found or [0], np.int64)


def _as_wanted(tensor: torch.Tensor, strides: tuple[int, ...] | None, dtype: torch.dtype) -> torch.Tensor:
    tensor = tensor.to("cpu", dtype)
    if strides is None:
        return tensor.contiguous()
    if tensor.stride() == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=dtype).copy_(tensor)


def flow_order(arrays: PlanArrays, pointers: np.ndarray) -> np.ndarray:
    """Uses, those contractions side by side that share a factor: its sums are then worked out once."""
    factor = arrays.uses[:, L.B]
    shared = (arrays.uses[:, L.KIND] == L.MM) & (factor >= 0)
    return np.argsort(np.where(shared, pointers[np.maximum(factor, 0)], -1), kind="stable").astype(np.int64)


class _Aside:
    """Half of the leaves, and then the flows, on a second thread: while the other half is done, and the traces are sent up."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._leaves: Future[None] | None = None
        self._flows: Future[None] | None = None

    def start(self, leaves: Callable[[], None], flows: Callable[[], None]) -> None:
        self._leaves, self._flows = self._pool.submit(leaves), self._pool.submit(flows)

    def leaves_done(self) -> None:
        if self._leaves is not None:
            self._leaves.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()  # compiled code works on arrays of this step: it must have ended, whatever went wrong
        if self._flows is not None and error[0] is None:
            self._flows.result()


def _halves(costs: np.ndarray, learnt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The leaves in two lists of about the same cost; the second is empty where a thread of its own does not pay."""
    if costs.sum() < _PARALLEL or torch.get_num_threads() < 2 or learnt.size < 2:
        return learnt, learnt[:0]
    halves: tuple[list[int], list[int]] = ([], [])
    load = [0.0, 0.0]
    for at in np.argsort(-costs):
        side = int(load[1] < load[0])
        halves[side].append(int(learnt[at]))
        load[side] += float(costs[at])
    return np.array(halves[0], np.int64), np.array(halves[1], np.int64)


def _visits(leaf: LeafArrays, work: Workspace) -> np.ndarray | None:
    """Traces by (group, sequence), or None (with more room) where a table of the workspace overflowed."""
    out = np.zeros((max(len(leaf.bounds) * 8, 1024), 4))
    while True:
        size = work.known.sequences[2].shape[0]
        rows = leaf_rows(
            leaf.bounds, leaf.slot, leaf.traffic, leaf.mass, work.into, np.zeros(size, np.int64), np.zeros(size), out
        )
        if work.known.full:
            work.make_room()
            return None
        if rows >= 0:
            return out[:rows]
        out = np.zeros((out.shape[0] * 4, 4))


def _component_totals(
    captured: Captured, visits: np.ndarray, work: Workspace, states: list[StepArrays]
) -> dict[str, np.ndarray]:
    inside = captured.plan.ancestry
    count = len(captured.plan.graph.components)
    found = {name: np.zeros(count) for name in ("mass", "own")}
    found |= {name: np.zeros(count, np.int64) for name in ("traffic", "entries", "contested", "won")}
    table = work.known.sequences
    shares.component_totals(
        visits, np.argsort(visits[:, 1], kind="stable"), table[2], table[3], int(table[4][COUNT]), inside.start, inside.listed,
        inside.owner_start, inside.owners, found["mass"], found["traffic"], found["entries"], found["own"],
    )  # fmt: skip
    for s in states:
        kinds = int(s.contest_table[4][COUNT])
        shares.contest_totals(
            s.contest_table[2][1:kinds], s.contest_table[3][1:kinds], s.contest_count[1:kinds], s.set_table[2], s.set_table[3],
            inside.start, inside.listed, found["contested"], found["won"],
        )  # fmt: skip
    return found
