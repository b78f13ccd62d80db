"""What the passes of a step work on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Table = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]

NON_FINITE = 0
"""Index into the meters of a pass: how many non-finite candidates were met."""

USED, ENTRIES = 0, 1
"""Indices into `StepArrays.counts`: slots and entries of leaves handed out so far."""

LIVE, MASS, STRONGEST, PATH = 0, 1, 2, 3
"""Columns of a parameter's row: live traces, their mass, flat index of the strongest scalar, number of its path."""


class PlanArrays(NamedTuple):
    """What the structure decides. T tensors (leaves first, then operator outputs in forward order), U uses.

    base, size: int64 [T]; use_start: int64 [T+1] into use_list: int64, in tie order; uses: int64 [U, WIDTH];
    ops, targets: int64 [U], two of its columns; owners: int64 [U], the tensor that each use reads; constants: float64 [U];
    comp_*: the component of each scalar of a tensor, by blocks; track: bool [T], whether the candidates of one scalar
    can lie in different components; leaves: number of leaf tensors; loss: id of the loss.
    """

    base: np.ndarray
    size: np.ndarray
    use_start: np.ndarray
    use_list: np.ndarray
    uses: np.ndarray
    ops: np.ndarray
    targets: np.ndarray
    owners: np.ndarray
    constants: np.ndarray
    comp_inner: np.ndarray
    comp_count: np.ndarray
    comp_table: np.ndarray
    track: np.ndarray
    leaves: int
    loss: int
    loss_tensor: int


class StepArrays(NamedTuple):
    """What one step and mode decide.

    pointers: int64, addresses of captured tensors by slot of the plan; h_address: int64 [T], of each tensor's h, the
    gradient (greedy) or the best product down to the loss (maxprod), 0 where there is none; exponent: int64 [T], binary
    exponent of h (0 for greedy).

    best (float [ids]), onward_id, via_use (int32 [ids]): the best candidate of each scalar, for tensors evaluated whole.
    Only what is written takes memory.

    slot: int32 [ids], where a visited operator scalar has its row in the arrays below (-1: not visited). ident, onward (a
    slot, -1: nowhere), traffic, link (next slot of the same tensor): int32; mass: float64. head: int32 [T], first slot of
    each tensor; filled: int64 [T], how many it has; counts: int64 [2].

    wide: its dtype is the integer as wide as the floats. set_table, contest_table, contest_count: see `component_sets`.
    sets: int32, the candidate components of each scalar of the tensor at hand.
    """

    pointers: np.ndarray
    h_address: np.ndarray
    exponent: np.ndarray
    best: np.ndarray
    onward_id: np.ndarray
    via_use: np.ndarray
    slot: np.ndarray
    ident: np.ndarray
    onward: np.ndarray
    traffic: np.ndarray
    link: np.ndarray
    mass: np.ndarray
    head: np.ndarray
    filled: np.ndarray
    counts: np.ndarray
    sets: np.ndarray
    wide: np.ndarray
    meters: np.ndarray
    set_table: Table
    contest_table: Table
    contest_count: np.ndarray
    largest: float


class LeafArrays(NamedTuple):
    """What is known of the traces where they start.

    learnt: int64 [L], the leaf tensors that are traced; gradients: float [leaf ids]; group_*: int64 [leaves], the groups
    (blocks of one component) of a leaf: number of the first, how many, scalars in each.

    Traces of one group that come to the same scalar are one entry: slot, traffic: int32, mass: float64 [entries]; bounds:
    int64 [groups, 2], the entries of a group. entry_at: int32 [slots], scratch.

    rows: float64 [L, 4], see the columns above (PATH is the slot that the strongest trace comes to until paths are numbered;
    it and STRONGEST are -1 where no trace is live); non_finite: int64 [L].
    """

    learnt: np.ndarray
    gradients: np.ndarray
    group_start: np.ndarray
    group_count: np.ndarray
    group_inner: np.ndarray
    entry_at: np.ndarray
    slot: np.ndarray
    traffic: np.ndarray
    mass: np.ndarray
    bounds: np.ndarray
    rows: np.ndarray
    non_finite: np.ndarray
