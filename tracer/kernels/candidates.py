"""The best candidate of every scalar of one tensor: one function for each kind of fan-out (see `layout`).

`evaluate` looks at all uses of a tensor and leaves, for each scalar, the consumer scalar with the largest |w·h|, where h
is the gradient (greedy) or the best product down to the loss (maxprod) of the consumer. Ties go to the use recorded
first, within one operator to the lowest output index. Zero, NaN and ±inf never win.
"""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.compiled import inlined, inner
from gradtrace.tracer.kernels.component_sets import with_element
from gradtrace.tracer.kernels.jacobian_rows import lines_of, normalised_row, row_factors, row_output, softmax_row
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
    LO,
    MM,
    NORM,
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
    WEIGHT_ROWS,
    WEIGHTS,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.kernels.rowmax import DEEP, KEPT, bounded_row_max, line_tops, positive, row_max
from gradtrace.tracer.kernels.state import NON_FINITE

TABLE = np.empty(0, np.int32)
"""Has the dtype of index tables."""

_COLUMNS = 512
"""Columns of a product worked on at a time: their running maxima fit the first-level cache."""
_BOUNDED = 256
"""The same where factors that cannot win are left out: bounds are closer over fewer columns."""
_ROWS = 16
"""Rows of a product whose factors are gathered at a time: one line of the cache."""
_DEPTH = 4096
"""Factors put together at most."""


@inlined
def component_of(tensor, flat, plan):
    """Component number of one scalar of a tensor (-1: none); blocks of a tensor may belong to different components."""
    inner, count, table = plan.comp_inner[tensor], plan.comp_count[tensor], plan.comp_table
    if count == 1:
        return table[tensor, 0]
    return table[tensor, (flat // inner) % count]


@inner
def evaluate(tensor, track, plan, state, like):
    """Best candidates of all scalars of one tensor, in `best`, `onward_id`, `via_use` (and `sets`) of the state.

    Returns the binary exponent that the values share.
    """
    base, size = plan.base[tensor], plan.size[tensor]
    state.best[base : base + size] = 0
    state.onward_id[base : base + size] = -1
    if track:
        state.sets[:size] = 0
    reference = top_exponent(tensor, plan, state)
    end = plan.use_start[tensor + 1]
    onwards = plan.use_start[tensor]
    while onwards < end:
        at = onwards
        onwards += 1
        use = plan.use_list[at]
        target = plan.targets[use]
        if state.h_address[target] == 0 or plan.uses[use, HI] <= plan.uses[use, LO]:
            continue
        shift = state.exponent[target] - reference
        constant = (
            like.dtype.type(plan.constants[use]) if shift == 0 else like.dtype.type(plan.constants[use] * 2.0**shift)
        )
        h = array_at(state.h_address[target], plan.size[target], like)
        kind = plan.uses[use, KIND]
        if kind == PAIRS:
            if not track and _copied(plan.uses[use]):
                _copies(use, base, size, constant, plan, state, like)
            else:
                _pairs(use, base, size, track, constant, h, plan, state, like)
        elif kind == MM:
            onwards = _run_end(at, end, track, plan, state)
            _contraction(at, onwards, base, size, track, constant, plan, state, like)
        else:
            _rows(use, base, size, track, constant, h, plan, state, like)
    return reference


@inlined
def top_exponent(tensor, plan, state):
    """The largest binary exponent among the tensors that read this one (0 for greedy throughout)."""
    reference = np.int64(-(2**62))
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        reference = max(reference, state.exponent[plan.targets[plan.use_list[at]]])
    return reference if reference > -(2**61) else np.int64(0)


@inlined
def offer(id, value, u, use, ops, best, onward, via):
    """Let (use, u) with `value` > 0 compete for an entry: ties go to the use recorded first, in one operator to the lowest u."""
    held = best[id]
    if value > held:
        best[id] = value
        onward[id] = u
        via[id] = use
    elif value == held and ops[via[id]] == ops[use] and u < onward[id]:
        onward[id] = u
        via[id] = use


@inlined
def _note(v, flat, target, plan, state):
    state.sets[v] = with_element(state.sets[v], component_of(target, flat, plan) + 1, state.set_table)


@inner
def _pairs(use, base, size, track, constant, h, plan, state, like):
    r = plan.uses[use]
    values_slot, weights_slot = r[VALUES], r[WEIGHTS]
    n = r[D0] * r[D1] * r[D2]
    values = array_at(state.pointers[max(values_slot, 0)], n, like)
    weights = array_at(state.pointers[max(weights_slot, 0)], n, like)
    if values_slot >= 0 and state.pointers[values_slot] == 0:
        return
    ids = array_at(r[ID_TABLE], n, TABLE)
    outs = array_at(r[OUT_TABLE], n, TABLE)
    target = r[TARGET]
    bad = _pairs_at(
        r, use, base, size, abs(constant), h, values, values_slot >= 0, weights, weights_slot >= 0, ids, outs,
        plan.base[target], state.largest, plan.ops, state.best, state.onward_id, state.via_use,
    )  # fmt: skip
    if bad > 0:
        state.meters[NON_FINITE] += bad
    if track:
        for j in range(r[LO], r[HI]):
            i0, i1, i2 = j // (r[D1] * r[D2]), (j // r[D2]) % r[D1], j % r[D2]
            v = _id(r, ids, j, i0, i1, i2) - base
            if not 0 <= v < size:
                continue
            flat = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1] + i2 * r[OUT_S2]
            if r[OUT_TABLE] != 0:
                flat = np.int64(outs[j])
            value = abs(values[j]) if values_slot >= 0 else abs(constant) * abs(h[flat])
            if values_slot < 0 and weights_slot >= 0:
                value = abs(weights[j]) * abs(constant) * abs(h[flat])
            if value > 0 and value <= state.largest:
                _note(v, flat, target, plan, state)


@inner
def _copied(r):
    """Whether each scalar is read once by every line of the outputs, with one weight: a bias under a batch."""
    return (
        r[ID_TABLE] == 0 and r[OUT_TABLE] == 0 and r[VALUES] < 0 and r[WEIGHTS] < 0 and r[D0] == 1 and r[D1] >= _ROWS
        and r[ID_S1] == 0 and r[LO] == 0 and r[HI] == r[D1] * r[D2]
    )  # fmt: skip


@inner
def _copies(use, base, size, constant, plan, state, like):
    """The product of one line of weights, all alike, with the gradients of the outputs."""
    r = plan.uses[use]
    target = r[TARGET]
    lines, columns, largest = r[D1], r[D2], state.largest
    width = min(columns, _COLUMNS)
    packed = np.empty((lines, width), like.dtype)
    best, wide = np.empty(width, like.dtype), np.empty(width, state.wide.dtype)
    column = np.full(lines, abs(constant))
    ks, use_of, onto = np.arange(lines), np.full(lines, use, np.int32), np.empty(lines, np.int64)
    for k in range(lines):
        onto[k] = plan.base[target] + k * r[OUT_S1]
    bad = 0
    for start in range(0, columns, width):
        span = min(width, columns - start)
        flat = r[OUT_START] + start * r[OUT_S2]
        reach = (lines - 1) * r[OUT_S1] + (span - 1) * r[OUT_S2] + 1
        h = array_at(state.h_address[target] + flat * like.itemsize, reach, like)
        bad += _pack(h, r[OUT_S1], r[OUT_S2], lines, span, largest, packed)
        row_max(column, ks, lines, packed, span, best, wide)
        bad += _without_overflow(column, ks, lines, packed, span, largest, best, wide)
        _merge(
            r[ID_START] + start * r[ID_S2], r[ID_S2], TABLE, 0, False, base, size, flat, r[OUT_S2], span, best, wide, use_of,
            onto, plan.ops, state.best, state.onward_id, state.via_use,
        )  # fmt: skip
    if bad > 0:
        state.meters[NON_FINITE] += bad


@inner
def _pairs_at(
    r, use, base, size, constant, h, values, by_value, weights, by_weight, ids, outs, target_base, largest, ops, best,
    onward, via,
):  # fmt: skip
    bad = 0
    op = ops[use]
    d1, d2 = r[D1], r[D2]
    d12 = d1 * d2
    id_table, out_table = r[ID_TABLE] != 0, r[OUT_TABLE] != 0
    id_step, out_step = r[ID_S2], r[OUT_S2]
    for i0 in range(r[LO] // d12, (r[HI] - 1) // d12 + 1):
        for i1 in range(d1):
            row = i0 * d12 + i1 * d2
            if row + d2 <= r[LO] or row >= r[HI]:
                continue
            id_row = r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1]
            out_row = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1]
            for i2 in range(d2):
                j = row + i2
                id = np.int64(ids[j]) if id_table else id_row + i2 * id_step
                if id < base or id >= base + size:
                    continue
                flat = np.int64(outs[j]) if out_table else out_row + i2 * out_step
                if by_value:
                    value = abs(values[j])
                elif by_weight:
                    value = abs(weights[j]) * constant * abs(h[flat])
                else:
                    value = constant * abs(h[flat])
                if value > 0 and value <= largest:
                    u = target_base + flat
                    held = best[id]
                    if value > held:
                        best[id] = value
                        onward[id] = u
                        via[id] = use
                    elif value == held and ops[via[id]] == op and u < onward[id]:
                        onward[id] = u
                        via[id] = use
                else:
                    bad += not value <= largest
    return bad


@inner
def _run_end(at, end, track, plan, state):
    """End of the run of uses, from `at` on, that are one contraction: the same weight, read again at every time step."""
    r = plan.uses[plan.use_list[at]]
    last = at + 1
    if track or r[ID_TABLE] != 0 or r[D0] != 1:
        return last
    while last < end and (last - at + 1) * r[K] <= _DEPTH:
        use = plan.use_list[last]
        q = plan.uses[use]
        alike = (
            q[KIND] == MM
            and state.h_address[plan.targets[use]] != 0
            and state.exponent[plan.targets[use]] == state.exponent[r[TARGET]]
            and plan.constants[use] == plan.constants[plan.use_list[at]]
        )
        for column in (D0, D1, D2, ID_TABLE, ID_START, ID_S1, ID_S2, K, U1, U2, UK, LO, HI, A_SK, A_SM, B_SK, B_SN):
            alike = alike and q[column] == r[column]
        if not alike or (q[A] < 0) != (r[A] < 0):
            break
        last += 1
    return last


@inner
def _contraction(at, end, base, size, track, constant, plan, state, like):
    """The (max, ×) products of the uses use_list[at:end], which are one product with the factors' lines put together."""
    use0 = plan.use_list[at]
    r = plan.uses[use0]
    rows, columns, depth = r[D1], r[D2], r[K]
    target = r[TARGET]
    number = end - at
    whole = depth * number
    ids = array_at(r[ID_TABLE], r[D0] * rows * columns, TABLE)
    factor = abs(constant)
    deep = whole >= DEEP
    width = min(columns, _BOUNDED if deep else _COLUMNS)
    ks = np.empty(whole, np.int64)
    best = np.empty(width, like.dtype)
    wide = np.empty(width, state.wide.dtype)
    packed = np.empty((whole, width), like.dtype)
    panel = np.empty((_ROWS, whole), like.dtype)
    tops, bounds = np.empty(whole, like.dtype), np.empty(whole, like.dtype)
    ratio = np.full(1, 0.5)
    use_of, onto = np.empty(whole, np.int32), np.empty(whole, np.int64)
    for t in range(number):
        use = plan.use_list[at + t]
        for k in range(depth):
            use_of[t * depth + k] = use
            onto[t * depth + k] = plan.base[plan.targets[use]] + k * r[UK]
    # Lengths that every line lies within: a slice of an array is cut at the array's end.
    reach_a = (depth - 1) * r[A_SK] + (_ROWS - 1) * r[A_SM] + 1
    reach_b = (depth - 1) * r[B_SK] + (width - 1) * r[B_SN] + 1
    largest = state.largest
    blocks = track and plan.comp_count[target] > 1 and r[UK] == 1
    first, last = r[LO] // columns, (r[HI] - 1) // columns + 1
    bad = 0
    for i0 in range(r[D0]):
        row_lo, row_hi = max(first - i0 * rows, 0), min(last - i0 * rows, rows)
        if row_lo >= row_hi:
            continue
        for start in range(0, columns, width):
            span = min(width, columns - start)
            for t in range(number):
                q = plan.uses[plan.use_list[at + t]]
                address = state.pointers[q[B]] if q[B] >= 0 else state.h_address[q[TARGET]]
                b = array_at(address + (i0 * q[B_S0] + start * q[B_SN]) * like.itemsize, reach_b, like)
                bad += _pack(b, q[B_SK], q[B_SN], depth, span, largest, packed[t * depth :])
            bounded = deep and row_hi - row_lo >= _ROWS
            if bounded:
                line_tops(packed, whole, span, tops)
            asked = kept = 0
            for top_row in range(row_lo, row_hi, _ROWS):
                count_rows = min(_ROWS, row_hi - top_row)
                for t in range(number):
                    q = plan.uses[plan.use_list[at + t]]
                    address = state.pointers[q[A]] if q[A] >= 0 else state.h_address[q[TARGET]]
                    a = array_at(address + (i0 * q[A_S0] + top_row * q[A_SM]) * like.itemsize, reach_a, like)
                    bad += _panel(
                        a, q[A_SK], q[A_SM], depth, count_rows, factor, largest,
                        panel[:, t * depth :],
                    )  # fmt: skip
                for i in range(count_rows):
                    i1 = top_row + i
                    column = panel[i]
                    if bounded:
                        count = bounded_row_max(
                            column, tops, whole, packed, span, largest, ratio, bounds, ks, best, wide
                        )
                        asked += whole
                        kept += count
                        bounded = asked < _ROWS * whole or kept < KEPT * asked
                    else:
                        count = positive(column, whole, ks)
                        row_max(column, ks, count, packed, span, best, wide)
                    if count == 0:
                        continue
                    bad += _without_overflow(column, ks, count, packed, span, largest, best, wide)
                    flat = i0 * r[U0] + i1 * r[U1] + start * r[U2]
                    place = (i0 * rows + i1) * columns + start
                    _merge(
                        r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] + start * r[ID_S2], r[ID_S2], ids, place,
                        r[ID_TABLE] != 0, base, size, flat, r[U2], span, best, wide, use_of, onto, plan.ops, state.best,
                        state.onward_id, state.via_use,
                    )  # fmt: skip
                    if not track:
                        continue
                    for n in range(span):
                        v = _id(r, ids, place + n, i0, i1, start + n) - base
                        if wide[n] < 0 or not 0 <= v < size:
                            continue
                        if blocks:
                            state.sets[v] = add_blocks(
                                state.sets[v], column, packed[:, n], depth, flat + n * r[U2], target, plan, state
                            )
                        else:
                            _note(v, flat + n * r[U2] + np.int64(wide[n]) * r[UK], target, plan, state)
    if bad > 0:
        state.meters[NON_FINITE] += bad


@inner
def _pack(b, k_step, n_step, depth, span, largest, packed):
    """packed[k, n] = |b[k, n]|, non-finite entries as 0; returns how many there were."""
    bad = 0
    if n_step == 1:
        for k in range(depth):
            line = b[k * k_step :]
            for n in range(span):
                value = abs(line[n])
                finite = value <= largest
                bad += not finite
                packed[k, n] = value if finite else 0
        return bad
    for n in range(span):
        line = b[n * n_step :]
        for k in range(depth):
            value = abs(line[k * k_step])
            finite = value <= largest
            bad += not finite
            packed[k, n] = value if finite else 0
    return bad


@inner
def _panel(a, k_step, m_step, depth, count, factor, largest, panel):
    """panel[i, k] = |a[k, i]|·factor for `count` rows i, non-finite entries as 0; returns how many there were."""
    bad = 0
    for k in range(depth):
        line = a[k * k_step :]
        for i in range(count):
            value = abs(line[i * m_step]) * factor
            finite = value <= largest
            bad += not finite
            panel[i, k] = value if finite else 0
    return bad


@inner
def _without_overflow(column, ks, count, packed, span, largest, best, wide):
    """Look again, one by one, where a product of two finite entries overflowed; returns how many did."""
    bad = 0
    for n in range(span):
        if best[n] > largest:
            best[n] = 0
            wide[n] = -1
            for q in range(count):
                value = column[ks[q]] * packed[ks[q], n]
                if value > largest:
                    bad += 1
                elif value > best[n]:
                    best[n] = value
                    wide[n] = ks[q]
    return bad


@inner
def _merge(
    id0, id_step, ids, at, by_table, base, size, flat, u_step, span, best, wide, use_of, onto, ops, tops, onward, via
):  # fmt: skip
    """Let one row of products compete."""
    for n in range(span):
        value = best[n]
        id = np.int64(ids[at + n]) if by_table else id0 + n * id_step
        if value > 0 and base <= id < base + size:
            k = wide[n]
            use = use_of[k]
            u = onto[k] + flat + n * u_step
            before = tops[id]
            if value > before:
                tops[id] = value
                onward[id] = u
                via[id] = use
            elif value == before and ops[via[id]] == ops[use] and u < onward[id]:
                onward[id] = u
                via[id] = use


@inlined
def add_blocks(number, left, right, depth, flat, target, plan, state):
    """The set `number` with the component of every block of outputs flat + k in which |left[k]·right[k]| is not 0."""
    inner = plan.comp_inner[target]
    k = np.int64(0)
    while k < depth:
        end = min(depth, k + inner - (flat + k) % inner)
        for i in range(k, end):
            value = abs(left[i] * right[i])
            if value > 0 and value <= state.largest:
                number = with_element(number, component_of(target, flat + i, plan) + 1, state.set_table)
                break
        k = end
    return number


@inner
def _id(r, ids, at, i0, i1, i2):
    if r[ID_TABLE] == 0:
        return r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] + i2 * r[ID_S2]
    return np.int64(ids[at])


@inner
def _rows(use, base, size, track, constant, h, plan, state, like):
    r = plan.uses[use]
    outer, d, inner = r[D0], r[D1], r[D2]
    n = outer * d * inner
    row = array_at(state.pointers[r[ROW]], n, like)
    scale = array_at(state.pointers[max(r[ROW_SCALE], 0)], outer, like)
    weight = array_at(state.pointers[max(r[ROW_WEIGHT], 0)], d * max(r[WEIGHT_ROWS], 1), like)
    ids = array_at(r[ID_TABLE], n, TABLE)
    target = r[TARGET]
    target_base, largest = plan.base[target], state.largest
    factor = np.empty(d, like.dtype)
    hull, cuts, lines = np.empty(2 * d, np.int64), np.empty(2 * d), np.int64(-1)
    bad = 0
    for i0 in range(r[LO] // (d * inner), (r[HI] - 1) // (d * inner) + 1):
        for i2 in range(inner):
            start = i0 * d * inner + i2
            first, second, missed = row_factors(r, row, h, scale, weight, i0, i2, abs(constant), largest, factor)
            bad += missed
            if r[KIND] == NORM:
                lines = lines_of(factor, row, start, d, d, hull, cuts)
            for j in range(d):
                id = _id(r, ids, start + j * inner, i0, j, i2)
                if not base <= id < base + size:
                    continue
                if r[KIND] == NORM:
                    value, i = normalised_row(factor, row, start, d, j, largest, hull, cuts, lines)
                else:
                    value, i = softmax_row(factor, row[start + j * inner], r[KIND] == SOFTMAX, j, first, second)
                if value > 0 and value <= largest:
                    flat = row_output(r, i0, i, i2)
                    offer(id, value, target_base + flat, use, plan.ops, state.best, state.onward_id, state.via_use)
                    if track:
                        _note(id - base, flat, target, plan, state)
                else:
                    bad += not value <= largest
    if bad > 0:
        state.meters[NON_FINITE] += bad
