"""The best candidate of every scalar of one tensor: one function for each kind of fan-out (see `layout`).

`evaluate` looks at all uses of a tensor and leaves, for each scalar that is asked for, the consumer scalar with the
largest |w·h|, where h is the gradient (greedy) or the best product down to the loss (maxprod) of the consumer. Ties go
to the use recorded first, within one operator to the lowest output index. Zero, NaN and ±inf never win.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.component_sets import with_element
from gradtrace.tracer.kernels.layout import (
    A_S0,
    A_SK,
    A_SM,
    B_S0,
    B_SK,
    B_SN,
    D0,
    D1,
    D2,
    HI,
    ID_S0,
    ID_S1,
    ID_S2,
    ID_START,
    ID_TABLE,
    KIND,
    LAYER_NORM,
    LO,
    LOG_SOFTMAX,
    MM,
    OP,
    OUT_S0,
    OUT_S1,
    OUT_S2,
    OUT_START,
    OUT_TABLE,
    PAIRS,
    ROW,
    ROW_SCALE,
    ROW_WEIGHT,
    SOFTMAX,
    TARGET,
    U0,
    U1,
    U2,
    UK,
    VALUES,
    WEIGHTS,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.kernels.rowmax import row_max

NON_FINITE = 0
"""Index into the meters of a pass: how many non-finite candidates were met."""

_TABLE = np.empty(0, np.int32)
_COLUMNS = 512
_SPARSE = 6  # visit scalars one by one where fewer than 1 in 6 of them are asked for


@nb.njit(cache=True, nogil=True, boundscheck=False)
def component_of(tensor, flat, plan):
    """Component number of one scalar of a tensor (-1: none); blocks of a tensor may belong to different components."""
    inner, count, table = plan.comp_inner[tensor], plan.comp_count[tensor], plan.comp_table
    if count == 1:
        return table[tensor, 0]
    return table[tensor, (flat // inner) % count]


@nb.njit(cache=True, nogil=True, boundscheck=False)
def offer(v, value, u, use, flat, base, plan, state, track):
    """Let (use, u) with `value` > 0 compete for the scalar v of the tensor at hand."""
    best, uses = state.best, plan.uses
    held = best[v]
    if value > held:
        best[v] = value
        state.next[base + v] = u
        state.via[base + v] = use
    elif value == held:
        other = state.via[base + v]
        if uses[other, OP] == uses[use, OP] and u < state.next[base + v]:
            state.next[base + v] = u
            state.via[base + v] = use
    if track:
        state.sets[v] = with_element(state.sets[v], component_of(uses[use, TARGET], flat, plan) + 1, state.set_table)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def evaluate(tensor, everything, track, plan, state, like):
    """Best candidates of one tensor; `everything` asks for all scalars, else for those with traffic."""
    base, size = plan.base[tensor], plan.size[tensor]
    state.best[:size] = 0
    if track:
        state.sets[:size] = 0
    reference = top_exponent(tensor, plan, state)
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        use = plan.use_list[at]
        target = plan.uses[use, TARGET]
        if state.h_address[target] == 0 or plan.uses[use, HI] <= plan.uses[use, LO]:
            continue
        shift = state.exponent[target] - reference
        constant = (
            like.dtype.type(plan.constants[use]) if shift == 0 else like.dtype.type(plan.constants[use] * 2.0**shift)
        )
        h = array_at(state.h_address[target], plan.size[target], like)
        kind = plan.uses[use, KIND]
        if kind == PAIRS:
            _pairs(use, base, size, everything, track, constant, h, plan, state, like)
        elif kind == MM:
            _contraction(use, base, size, everything, track, constant, h, plan, state, like)
        else:
            _rows(use, base, size, everything, track, constant, h, plan, state, like)
    return reference


@nb.njit(cache=True, nogil=True, boundscheck=False)
def top_exponent(tensor, plan, state):
    """The largest binary exponent among the tensors that read this one (0 for greedy throughout)."""
    reference = np.int64(-(2**62))
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        reference = max(reference, state.exponent[plan.uses[plan.use_list[at], TARGET]])
    return reference if reference > -(2**61) else np.int64(0)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _asked(v, size, base, everything, traffic):
    return 0 <= v < size and (everything or traffic[base + v] > 0)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _pairs(use, base, size, everything, track, constant, h, plan, state, like):
    r = plan.uses[use]
    values_slot, weights_slot = r[VALUES], r[WEIGHTS]
    n = r[D0] * r[D1] * r[D2]
    values = array_at(state.pointers[max(values_slot, 0)], n, like)
    weights = array_at(state.pointers[max(weights_slot, 0)], n, like)
    if values_slot >= 0 and state.pointers[values_slot] == 0:
        return
    ids = array_at(r[ID_TABLE], n, _TABLE)
    outs = array_at(r[OUT_TABLE], n, _TABLE)
    target_base = plan.base[r[TARGET]]
    largest = state.largest
    if not track and r[ID_TABLE] == 0 and r[OUT_TABLE] == 0 and r[LO] == 0 and r[HI] == n:
        state.meters[NON_FINITE] += _plain_pairs(
            r, use, base, size, everything, constant, h, values, weights, values_slot >= 0, weights_slot >= 0,
            target_base, largest, plan.uses, state.best, state.next, state.via, state.traffic,
        )  # fmt: skip
        return
    d12 = r[D1] * r[D2]
    for i0 in range(r[LO] // d12, (r[HI] - 1) // d12 + 1):
        for i1 in range(r[D1]):
            row = i0 * d12 + i1 * r[D2]
            if row + r[D2] <= r[LO] or row >= r[HI]:
                continue
            id_row = r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] - base
            out_row = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1]
            for i2 in range(r[D2]):
                j = row + i2
                v = id_row + i2 * r[ID_S2] if r[ID_TABLE] == 0 else np.int64(ids[j]) - base
                if not _asked(v, size, base, everything, state.traffic):
                    continue
                flat = out_row + i2 * r[OUT_S2] if r[OUT_TABLE] == 0 else np.int64(outs[j])
                if values_slot >= 0:
                    value = abs(values[j])
                elif weights_slot >= 0:
                    value = abs(weights[j] * constant) * abs(h[flat])
                else:
                    value = abs(constant) * abs(h[flat])
                if value > 0 and value <= largest:
                    offer(v, value, target_base + flat, use, flat, base, plan, state, track)
                elif not value <= largest:
                    state.meters[NON_FINITE] += 1


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _plain_pairs(
    r, use, base, size, everything, constant, h, values, weights, by_value, by_weight, target_base, largest, uses, held,
    onward, via, traffic,
):  # fmt: skip
    """`_pairs` where both maps are strided and components need no watching; returns how many were not finite."""
    op = r[OP]
    d0, d1, d2 = r[D0], r[D1], r[D2]
    id_step, out_step = r[ID_S2], r[OUT_S2]
    bad = 0
    for i0 in range(d0):
        for i1 in range(d1):
            row = (i0 * d1 + i1) * d2
            id_row = r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] - base
            out_row = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1]
            for i2 in range(d2):
                v = id_row + i2 * id_step
                if v < 0 or v >= size or not (everything or traffic[base + v] > 0):
                    continue
                flat = out_row + i2 * out_step
                if by_value:
                    value = abs(values[row + i2])
                elif by_weight:
                    value = abs(weights[row + i2] * constant) * abs(h[flat])
                else:
                    value = abs(constant) * abs(h[flat])
                if not value <= largest:
                    bad += 1
                    continue
                before = held[v]
                if value > before:
                    held[v] = value
                    onward[base + v] = target_base + flat
                    via[base + v] = use
                elif value == before and value > 0:
                    u = target_base + flat
                    if uses[via[base + v], OP] == op and u < onward[base + v]:
                        onward[base + v] = u
                        via[base + v] = use
    return bad


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _contraction(use, base, size, everything, track, constant, h, plan, state, like):
    r = plan.uses[use]
    rows, columns, depth = r[D1], r[D2], r[K]
    a_address = state.pointers[r[A]] if r[A] >= 0 else state.h_address[r[TARGET]]
    b_address = state.pointers[r[B]] if r[B] >= 0 else state.h_address[r[TARGET]]
    a = array_at(a_address, 1, like)
    b = array_at(b_address, 1, like)
    ids = array_at(r[ID_TABLE], r[D0] * rows * columns, _TABLE)
    factor = abs(constant)
    width = min(columns, _COLUMNS)
    column = np.empty(depth, like.dtype)
    ks = np.empty(depth, np.int64)
    best = np.empty(width, like.dtype)
    wide = np.empty(width, state.wide.dtype)
    packed = np.empty((1, 1), like.dtype)
    largest = state.largest
    target, target_base = r[TARGET], plan.base[r[TARGET]]
    held, onward, via = state.best, state.next, state.via
    first, last = r[LO] // columns, (r[HI] - 1) // columns + 1
    for i0 in range(r[D0]):
        row_lo, row_hi = max(first - i0 * rows, 0), min(last - i0 * rows, rows)
        if row_lo >= row_hi:
            continue
        wanted = (row_hi - row_lo) * columns
        if not everything:
            wanted = 0
            for i1 in range(row_lo, row_hi):
                for i2 in range(columns):
                    v = _id(r, ids, i0, i1, i2, rows, columns) - base
                    if _asked(v, size, base, everything, state.traffic):
                        wanted += 1
            if wanted == 0:
                continue
        sparse = wanted * _SPARSE < (row_hi - row_lo) * columns
        for start in range(0, columns, width):
            span = min(width, columns - start)
            if not sparse:
                if packed.shape[0] != depth or packed.shape[1] != width:
                    packed = np.empty((depth, width), like.dtype)
                for k in range(depth):
                    at = i0 * r[B_S0] + k * r[B_SK] + start * r[B_SN]
                    for n in range(span):
                        value = abs(b[at + n * r[B_SN]])
                        if value <= largest:
                            packed[k, n] = value
                        else:
                            packed[k, n] = 0
                            state.meters[NON_FINITE] += 1
            for i1 in range(row_lo, row_hi):
                count = 0
                for k in range(depth):
                    value = abs(a[i0 * r[A_S0] + k * r[A_SK] + i1 * r[A_SM]]) * factor
                    if value > 0 and value <= largest:
                        column[k] = value
                        ks[count] = k
                        count += 1
                    elif not value <= largest:
                        state.meters[NON_FINITE] += 1
                if count == 0:
                    continue
                if not sparse:
                    row_max(column, ks, count, packed, span, best, wide)
                if not sparse and everything and not track and r[ID_TABLE] == 0:
                    # The common case, all scalars of a parameter: the same as below with everything looked up beforehand.
                    v0 = r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] + start * r[ID_S2] - base
                    u0 = target_base + i0 * r[U0] + i1 * r[U1] + start * r[U2]
                    if _merge(
                        use,
                        v0,
                        r[ID_S2],
                        u0,
                        r[U2],
                        r[UK],
                        span,
                        best,
                        wide,
                        base,
                        largest,
                        plan.uses,
                        held,
                        onward,
                        via,
                    ):
                        continue
                for n in range(span):
                    v = _id(r, ids, i0, i1, start + n, rows, columns) - base
                    if not _asked(v, size, base, everything, state.traffic):
                        continue
                    if sparse or best[n] > largest:
                        at = i0 * r[B_S0] + (start + n) * r[B_SN]
                        top, k_top = like.dtype.type(0), -1
                        for q in range(count):
                            value = column[ks[q]] * abs(b[at + ks[q] * r[B_SK]])
                            if value > top and value <= largest:
                                top = value
                                k_top = ks[q]
                            elif not value <= largest:
                                state.meters[NON_FINITE] += 1
                    else:
                        top, k_top = best[n], np.int64(wide[n])
                    if top > 0:
                        flat = i0 * r[U0] + i1 * r[U1] + (start + n) * r[U2] + k_top * r[UK]
                        offer(v, top, target_base + flat, use, flat, base, plan, state, track)
                        if track and plan.comp_count[target] > 1 and r[UK] == 1:
                            _all_blocks(v, i0, i1, start + n, use, column, ks, count, b, plan, state)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _merge(use, v0, v_step, u0, u_step, u_k, span, best, wide, base, largest, uses, held, onward, via):
    """Let one row of products compete; False (and nothing done) if one of them overflowed."""
    for n in range(span):
        if best[n] > largest:
            return False
    op = uses[use, OP]
    for n in range(span):
        value = best[n]
        v = v0 + n * v_step
        before = held[v]
        if value > before:
            held[v] = value
            onward[base + v] = u0 + n * u_step + wide[n] * u_k
            via[base + v] = use
        elif value == before and value > 0:
            u = u0 + n * u_step + wide[n] * u_k
            if uses[via[base + v], OP] == op and u < onward[base + v]:
                onward[base + v] = u
                via[base + v] = use
    return True


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _all_blocks(v, i0, i1, i2, use, column, ks, count, b, plan, state):
    """Add the component of every block of the output in which the scalar v has a non-zero candidate."""
    r = plan.uses[use]
    inner = plan.comp_inner[r[TARGET]]
    seen = np.int64(-1)
    for q in range(count):
        k = ks[q]
        block = k // inner
        if block != seen and column[k] * abs(b[i0 * r[B_S0] + i2 * r[B_SN] + k * r[B_SK]]) > 0:
            seen = block
            flat = i0 * r[U0] + i1 * r[U1] + i2 * r[U2] + k
            state.sets[v] = with_element(state.sets[v], component_of(r[TARGET], flat, plan) + 1, state.set_table)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _id(r, ids, i0, i1, i2, rows, columns):
    if r[ID_TABLE] == 0:
        return r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] + i2 * r[ID_S2]
    return np.int64(ids[(i0 * rows + i1) * columns + i2])


@nb.njit(cache=True, nogil=True, boundscheck=False)
def row_weight(r, group, i, j, d, inner, i2, row, scale, weight):
    """Partial of output i with respect to input j in one row of a softmax, log-softmax or layer norm."""
    kind = r[KIND]
    at_i, at_j = (group * d + i) * inner + i2, (group * d + j) * inner + i2
    if kind == SOFTMAX:
        return row[at_i] * (1 - row[at_j]) if i == j else -row[at_i] * row[at_j]
    if kind == LOG_SOFTMAX:
        return 1 - np.exp(row[at_j]) if i == j else -np.exp(row[at_j])
    x = d - 1 - row[at_i] * row[at_j] if i == j else -1 - row[at_i] * row[at_j]
    w = x * scale[group] / d
    return w * weight[i] if r[ROW_WEIGHT] >= 0 else w


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _rows(use, base, size, everything, track, constant, h, plan, state, like):
    r = plan.uses[use]
    outer, d, inner = r[D0], r[D1], r[D2]
    n = outer * d * inner
    row = array_at(state.pointers[r[ROW]], n, like)
    scale = array_at(state.pointers[max(r[ROW_SCALE], 0)], outer, like)
    weight = array_at(state.pointers[max(r[ROW_WEIGHT], 0)], d, like)
    ids = array_at(r[ID_TABLE], n, _TABLE)
    target_base = plan.base[r[TARGET]]
    largest = state.largest
    factor = np.empty(d, like.dtype)
    for i0 in range(r[LO] // (d * inner), (r[HI] - 1) // (d * inner) + 1):
        for i2 in range(inner):
            prepared = False
            first = second = -1
            for j in range(d):
                v = _id(r, ids, i0, j, i2, d, inner) - base
                if not _asked(v, size, base, everything, state.traffic):
                    continue
                if not prepared:
                    prepared = True
                    for i in range(d):
                        at = (i0 * d + i) * inner + i2
                        x = abs(h[at] * constant)
                        if r[KIND] == SOFTMAX:
                            x = abs(row[at]) * x
                        elif r[KIND] == LAYER_NORM:
                            x = x * scale[i0] / d
                            if r[ROW_WEIGHT] >= 0:
                                x = x * abs(weight[i])
                        if not x <= largest:
                            state.meters[NON_FINITE] += 1
                            x = 0
                        factor[i] = x
                        if first < 0 or x > factor[first]:
                            second = first
                            first = i
                        elif second < 0 or x > factor[second]:
                            second = i
                at_j = (i0 * d + j) * inner + i2
                top, i_top = like.dtype.type(0), -1
                if r[KIND] == LAYER_NORM:
                    for i in range(d):
                        x = -1 - row[(i0 * d + i) * inner + i2] * row[at_j]
                        if i == j:
                            x += d
                        value = factor[i] * abs(x)
                        if value > top and value <= largest:
                            top = value
                            i_top = i
                else:
                    shared = abs(row[at_j]) if r[KIND] == SOFTMAX else np.exp(row[at_j])
                    other = second if first == j else first
                    if other >= 0:
                        top = factor[other] * shared
                        i_top = other
                    value = factor[j] * abs(1 - shared)
                    if value > top or (value == top and j < i_top):
                        top = value
                        i_top = j
                if top > 0 and top <= largest:
                    flat = (i0 * d + i_top) * inner + i2
                    offer(v, top, target_base + flat, use, flat, base, plan, state, track)
                elif not top <= largest:
                    state.meters[NON_FINITE] += 1
