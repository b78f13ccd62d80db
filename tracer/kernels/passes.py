"""The passes over a whole step, each one call into compiled code.

values      maxprod only: best product of every scalar, from the loss down
leaves      best candidates of parameter scalars (all of them)
forward     traffic from the parameters up to the loss; candidates of a scalar are looked at when a trace reaches it
sequences   which components the trace of every visited scalar crosses from there on, from the loss down
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.candidates import _TABLE, _id, component_of, evaluate
from gradtrace.tracer.kernels.component_sets import intern
from gradtrace.tracer.kernels.layout import D0, D1, D2, HI, ID_TABLE, LO, TARGET

Table = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class PlanArrays(NamedTuple):
    """What the structure decides. T tensors (leaves first, then operator outputs in forward order), U uses.

    base, size: int64 [T]; use_start: int64 [T+1] into use_list: int64, in tie order; uses: int64 [U, WIDTH];
    constants: float64 [U]; comp_*: the component of each scalar of a tensor, by blocks; track: bool [T], whether the
    candidates of one scalar can lie in different components; leaves: number of leaf tensors; loss: id of the loss.
    """

    base: np.ndarray
    size: np.ndarray
    use_start: np.ndarray
    use_list: np.ndarray
    uses: np.ndarray
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

    pointers: int64, addresses of captured tensors by slot; h_address: int64 [T], of each tensor's h (0: none);
    exponent: int64 [T], binary exponent of h (0 for greedy); next, via: int32 [ids]; traffic: int32 [ids]; mass:
    float64 [ids]; best, sets: scratch for one tensor; wide: its dtype is the index type of the inner loop.
    """

    pointers: np.ndarray
    h_address: np.ndarray
    exponent: np.ndarray
    next: np.ndarray
    via: np.ndarray
    traffic: np.ndarray
    mass: np.ndarray
    best: np.ndarray
    sets: np.ndarray
    wide: np.ndarray
    meters: np.ndarray
    set_table: Table
    contest_table: Table
    contest_count: np.ndarray
    largest: float


@nb.njit(cache=True, nogil=True, boundscheck=False)
def values(plan, state, t, like):
    """maxprod: fill t (float64 [ids], scaled per tensor by 2**exponent), next and via, from the loss down."""
    for tensor in range(plan.base.shape[0] - 1, -1, -1):
        base, size = plan.base[tensor], plan.size[tensor]
        reference = evaluate(tensor, True, False, plan, state, like)
        if tensor == plan.loss_tensor:
            state.best[plan.loss - base] = 1
            state.next[plan.loss] = -1
            reference = np.int64(0)
        top = 0.0
        for v in range(size):
            top = max(top, state.best[v])
        shift = np.int64(0)
        if top > 0:
            shift = np.int64(np.floor(np.log2(top)))
        scale = 2.0 ** (-shift)
        for v in range(size):
            t[base + v] = state.best[v] * scale
        state.exponent[tensor] = reference + shift


@nb.njit(cache=True, nogil=True, boundscheck=False)
def leaves(tensors, plan, state, like):
    """greedy: next and via of all scalars of the listed leaves, with the contests that their traces meet."""
    for at in range(tensors.shape[0]):
        tensor = tensors[at]
        evaluate(tensor, True, plan.track[tensor], plan, state, like)
        if plan.track[tensor]:
            _contests(tensor, plan, state)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _contests(tensor, plan, state):
    base, parent = plan.base[tensor], state.set_table[2]
    for v in range(plan.size[tensor]):
        s = state.sets[v]
        if s == 0 or parent[s] == 0:
            continue
        count = state.traffic[base + v]
        u = state.next[base + v]
        if count == 0 or u < 0:
            continue
        target = plan.uses[state.via[base + v], TARGET]
        winner = component_of(target, u - plan.base[target], plan)
        entry = intern(s, winner + 1, state.contest_table)
        state.contest_count[entry] += count


@nb.njit(cache=True, nogil=True, boundscheck=False)
def forward(plan, state, evaluated, use_traffic, use_mass, like):
    """Send the traces up. `evaluated` says whether next and via are known for operator outputs (maxprod)."""
    for tensor in range(plan.base.shape[0]):
        base, size = plan.base[tensor], plan.size[tensor]
        if tensor >= plan.leaves:
            if not _any(state.traffic, base, size):
                continue
            if not evaluated or plan.track[tensor]:
                evaluate(tensor, False, plan.track[tensor], plan, state, like)
                if tensor == plan.loss_tensor:
                    state.next[plan.loss] = -1
                if plan.track[tensor]:
                    _contests(tensor, plan, state)
        elif evaluated and plan.track[tensor]:
            evaluate(tensor, False, True, plan, state, like)
            _contests(tensor, plan, state)
        _send(base, size, state.next, state.via, state.traffic, state.mass, use_traffic, use_mass)


# Plain arrays, not the tuples of a plan: compiled code counts references each time it takes an array out of a tuple.


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _any(traffic, base, size):
    found = False
    for v in range(base, base + size):
        found = found or traffic[v] > 0
        if found:
            break
    return found


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _send(base, size, onward, via, traffic, mass, use_traffic, use_mass):
    for v in range(base, base + size):
        count = traffic[v]
        u = onward[v]
        if count == 0 or u < 0:
            continue
        use = via[v]
        traffic[u] += count
        mass[u] += mass[v]
        use_traffic[use] += count
        use_mass[use] += mass[v]


@nb.njit(cache=True, nogil=True, boundscheck=False)
def sequences(plan, state, sequence, table, group_inner, group_count, group_start, traffic_of, mass_of, out):
    """Sequence numbers of every visited scalar (int32 [ids]) and, for leaves, traces by (group, sequence).

    A group is a block of a leaf tensor that belongs to one component. Element e > 0 of a sequence (as of the sets of
    candidate components) is component e - 1, and 0 stands for "no component". Rows of `out` (float64 [., 4]) become
    (group, sequence, traffic, mass); returns how many there are, or -1 if `out` is too short. `traffic_of`/`mass_of`
    are scratch, as long as the table, all zero.
    """
    rows = 0
    element = table[3]
    onward, via, traffic, mass = state.next, state.via, state.traffic, state.mass
    uses, bases = plan.uses, plan.base
    inners, counts, components = plan.comp_inner, plan.comp_count, plan.comp_table
    for tensor in range(plan.base.shape[0] - 1, -1, -1):
        base, size = plan.base[tensor], plan.size[tensor]
        leaf = tensor < plan.leaves
        groups = group_count[tensor] if leaf else 1
        span = group_inner[tensor] if leaf else size
        if not leaf and not _any(traffic, base, size):
            continue
        for start in range(0, size, span):
            group = group_start[tensor] + (start // span) % groups if leaf else 0
            touched_from = np.int64(2**31)
            touched_to = np.int64(-1)
            last_key = np.int64(-1)
            last = np.int64(0)
            for v in range(start, min(start + span, size)):
                count = traffic[base + v]
                u = onward[base + v]
                if count == 0 or u < 0:
                    continue
                target = uses[via[base + v], TARGET]
                block = 0 if counts[target] == 1 else ((u - bases[target]) // inners[target]) % counts[target]
                component = components[target, block] + 1
                after = sequence[u]
                key = (np.int64(after) << 32) | np.int64(component)
                if key != last_key:
                    last_key = key
                    last = np.int64(after) if element[after] == component else intern(after, component, table)
                if leaf:
                    traffic_of[last] += count
                    mass_of[last] += mass[base + v]
                    touched_from = min(touched_from, last)
                    touched_to = max(touched_to, last)
                else:
                    sequence[base + v] = last
            for s in range(touched_from, touched_to + 1):
                if traffic_of[s] > 0:
                    if rows >= out.shape[0]:
                        return -1
                    out[rows, 0] = group
                    out[rows, 1] = s
                    out[rows, 2] = traffic_of[s]
                    out[rows, 3] = mass_of[s]
                    traffic_of[s] = 0
                    mass_of[s] = 0
                    rows += 1
    return rows


@nb.njit(cache=True, nogil=True, boundscheck=False)
def mark_read(tensor, plan, read):
    """Set read[v] for every scalar of a tensor that some operator reads, whatever its gradient."""
    base, size = plan.base[tensor], plan.size[tensor]
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        r = plan.uses[plan.use_list[at]]
        ids = array_at(r[ID_TABLE], r[D0] * r[D1] * r[D2], _TABLE)
        for j in range(r[LO], r[HI]):
            rest, i2 = j // r[D2], j % r[D2]
            v = _id(r, ids, rest // r[D1], rest % r[D1], i2, r[D1], r[D2]) - base
            if 0 <= v < size:
                read[v] = 1
