"""One captured step in one mode, traced: the compiled passes in order, and what they leave behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gradtrace.tracer.capture import Captured
from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.kernels import passes, tree
from gradtrace.tracer.kernels.candidates import NON_FINITE
from gradtrace.tracer.kernels.component_sets import COUNT, FULL, new_table
from gradtrace.tracer.kernels.flows import flows

_PARALLEL = 2_000_000
"""Products in the leaves' contractions from which on they are shared out over two threads."""


@dataclass
class Solved:
    """The traces of one step in one mode, by the plan's numbers.

    Attributes:
        next, traffic, mass: per scalar id: where its trace goes on (-1: nowhere), traces through it, their mass.
        use_traffic, use_mass, flow, peak: per use.
        contests: int64 [., 3] of (candidate set number, winner's component + 1, departures); sets in `set_table`.
        visits: float64 [., 4] of (group, sequence, traces, mass); sequences in `sequence_table`.
        gradients: per plan tensor, flat gradient array of the compute dtype, or None.
        non_finite: whether any gradient or candidate was NaN or ±inf.
    """

    mode: str
    captured: Captured
    plan: passes.PlanArrays
    state: passes.StepArrays
    like: np.ndarray
    next: np.ndarray
    traffic: np.ndarray
    mass: np.ndarray
    use_traffic: np.ndarray
    use_mass: np.ndarray
    flow: np.ndarray
    peak: np.ndarray
    set_tables: list[tuple[passes.Table, np.ndarray]]
    sequence_table: passes.Table
    visits: np.ndarray
    gradients: list[np.ndarray | None]
    non_finite: bool
    keep: list[Any]
    place: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    columns: np.ndarray = field(default_factory=lambda: np.zeros((0, tree.WIDTH)))
    rows: int = 0

    def trace_rows(self, start: int) -> np.ndarray:
        """Rows of `columns` (see `kernels.tree`) that make up the trace of scalar `start`, itself first."""
        self.grow(np.array([start], np.int64))
        return np.asarray(tree.rows_from(int(self.place[start]), self.place, self.columns))

    def grow(self, starts: np.ndarray) -> None:
        """Have the traces of these scalars in the tree."""
        if not self.place.size:
            self.place = np.full(self.next.shape[0], -1, np.int32)
            self.columns = np.zeros((max(1024, 4 * starts.size), tree.WIDTH))
        while True:
            rows = tree.grow(starts, self.rows, self.plan, self.state, self.place, self.like, self.columns)
            if rows >= 0:
                self.rows = int(rows)
                return
            self.rows = int(-1 - rows)
            self.columns = np.concatenate([self.columns, np.zeros_like(self.columns)])


def solve(captured: Captured, mode: str) -> Solved:
    """Trace a captured step (its backward has run) in one mode."""
    capacity = 1 << 14
    while True:
        solved = _attempt(captured, mode, capacity)
        if solved is not None:
            return solved
        capacity *= 4


def _attempt(captured: Captured, mode: str, capacity: int) -> Solved | None:
    plan = captured.plan
    doubled = mode != "greedy" or any(
        g is not None and g.dtype == torch.float64 for g in captured.outputs[plan.arrays.leaves :]
    )
    dtype = torch.float64 if doubled else torch.float32
    like = np.empty(0, np.float64 if doubled else np.float32)
    keep: list[Any] = []
    pointers = np.zeros(max(len(captured.tensors), 1), np.int64)
    for slot, tensor in enumerate(captured.tensors):
        strides = plan.captures[slot].source.strides if slot < len(plan.captures) else None
        pointers[slot] = _address(tensor, dtype, strides, keep)
    arrays = plan.arrays._replace(uses=captured.uses)
    count = int(arrays.base[-1] + arrays.size[-1])
    tensors = len(arrays.base)
    gradients: list[np.ndarray | None] = []
    h_address = np.zeros(tensors, np.int64)
    for at, gradient in enumerate(captured.outputs):
        if gradient is None:
            gradients.append(None)
            continue
        h_address[at] = _address(gradient, dtype, None, keep)
        gradients.append(keep[-1].view(-1).numpy())
    greedy_h = h_address.copy()
    exponent = np.zeros(tensors, np.int64)
    nxt = np.full(count, -1, np.int32)
    via = np.zeros(count, np.int32)
    traffic = np.zeros(count, np.int32)
    mass = np.zeros(count)
    scratch = int(arrays.size.max())

    largest = float(np.finfo(np.float64 if doubled else np.float32).max)

    def state(next_sets: passes.Table, contests: passes.Table) -> passes.StepArrays:
        return passes.StepArrays(
            pointers, h_address, exponent, nxt, via, traffic, mass, np.empty(scratch, like.dtype),
            np.zeros(scratch, np.int32), np.empty(0, np.int64 if doubled else np.int32), np.zeros(2, np.int64), next_sets,
            contests, np.zeros(contests[2].shape[0], np.int64), largest,
        )  # fmt: skip

    main = state(new_table(capacity), new_table(capacity))
    states = [main]
    learnt = np.array([p.tensor for p in plan.layout.parameters if p.tensor is not None], np.int64)
    for tensor in learnt:
        base, size = arrays.base[tensor], arrays.size[tensor]
        traffic[base : base + size] = 1
        gradient = gradients[tensor]
        if gradient is not None:
            found = np.abs(gradient.astype(np.float64))
            mass[base : base + size] = np.where(np.isfinite(found), found, 0)
    flow, peak = np.zeros(len(arrays.uses)), np.zeros(len(arrays.uses))
    owners = np.array([r.tensor for r in plan.records], np.int64)
    flows(owners, arrays, main, flow, peak, like)
    if mode == "maxprod":
        arrays.uses[:, L.VALUES] = -1
        t = np.zeros(count, like.dtype)
        keep.append(t)
        h_address[:] = t.ctypes.data + arrays.base * t.itemsize
        passes.values(arrays, main, t, like)
    else:
        states += _leaves(learnt, arrays, main, state, capacity, like)
    first_operator = int(arrays.base[arrays.leaves]) if tensors > arrays.leaves else count
    traffic[:first_operator][nxt[:first_operator] < 0] = 0
    use_traffic, use_mass = np.zeros(len(arrays.uses), np.int64), np.zeros(len(arrays.uses))
    passes.forward(arrays, main, mode == "maxprod", use_traffic, use_mass, like)
    if any(s.set_table[4][FULL] or s.contest_table[4][FULL] for s in states):
        return None
    layout = plan.layout
    sequence_table = new_table(capacity)
    sequence = np.zeros(count, np.int32)
    out = np.zeros((max(len(layout.groups) * 64, 1024), 4))
    while True:
        rows = passes.sequences(
            arrays, main, sequence, sequence_table, layout.group_inner, layout.group_count, layout.group_start,
            np.zeros(capacity, np.int64), np.zeros(capacity), out,
        )  # fmt: skip
        if sequence_table[4][FULL]:
            return None
        if rows >= 0:
            break
        out = np.zeros((out.shape[0] * 4, 4))
    non_finite = any(s.meters[NON_FINITE] for s in states) or any(
        g is not None and not np.isfinite(g).all() for g in gradients
    )
    return Solved(
        mode, captured, arrays, main, like, nxt, traffic, mass, use_traffic, use_mass, flow, peak,
        [(s.set_table, _contests(s)) for s in states], sequence_table, out[:rows], gradients, non_finite,
        [keep, greedy_h],
    )  # fmt: skip


def _leaves(
    learnt: np.ndarray, arrays: passes.PlanArrays, main: passes.StepArrays, state: Any, capacity: int, like: np.ndarray
) -> list[passes.StepArrays]:
    """Candidates of all parameter scalars, shared out over two threads where that is worth it."""
    cost = np.array([_cost(t, arrays) for t in learnt]) if learnt.size else np.zeros(0)
    if cost.sum() < _PARALLEL or torch.get_num_threads() < 2 or learnt.size < 2:
        passes.leaves(learnt, arrays, main, like)
        return []
    other = state(new_table(capacity), new_table(capacity))
    halves: list[list[int]] = [[], []]
    load = [0.0, 0.0]
    for at in np.argsort(-cost):
        side = int(load[1] < load[0])
        halves[side].append(int(learnt[at]))
        load[side] += float(cost[at])
    with ThreadPoolExecutor(1) as pool:
        aside = pool.submit(passes.leaves, np.array(halves[1], np.int64), arrays, other, like)
        passes.leaves(np.array(halves[0], np.int64), arrays, main, like)
        aside.result()
    return [other]


def _cost(tensor: int, arrays: passes.PlanArrays) -> float:
    rows = arrays.uses[arrays.use_list[arrays.use_start[tensor] : arrays.use_start[tensor + 1]]]
    return float((rows[:, L.D0] * rows[:, L.D1] * rows[:, L.D2] * np.maximum(rows[:, L.K], 1)).sum())


def _contests(state: passes.StepArrays) -> np.ndarray:
    """(set number, winner's component + 1, departures) of the contests that one state met."""
    table = state.contest_table
    count = int(table[4][COUNT])
    return np.stack([table[2][1:count], table[3][1:count], state.contest_count[1:count]], 1).astype(np.int64)


def _address(tensor: torch.Tensor | None, dtype: torch.dtype, strides: tuple[int, ...] | None, keep: list[Any]) -> int:
    """Address of the tensor in the wanted dtype and layout (a copy where it differs), kept alive in `keep`."""
    if tensor is None:
        return 0
    tensor = tensor.detach()
    if tensor.device.type != "cpu" or tensor.dtype != dtype:
        tensor = tensor.to("cpu", dtype)
    if strides is None:
        tensor = tensor.contiguous()
    elif tensor.stride() != strides:
        tensor = torch.empty_strided(tensor.shape, strides, dtype=dtype).copy_(tensor)
    keep.append(tensor)
    return tensor.data_ptr()
