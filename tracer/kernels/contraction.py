"""Candidates of contractions: (max, ×) products of an operand with the gradient of the output."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.compiled import inlined, inner
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
    LO,
    MM,
    TARGET,
    U0,
    U1,
    U2,
    UK,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.kernels.merge import merge, take
from gradtrace.tracer.kernels.offers import TABLE, component_of, id_at, note
from gradtrace.tracer.kernels.rowmax import DEEP, KEPT, bounded_row_max, line_tops
from gradtrace.tracer.kernels.state import NON_FINITE
from gradtrace.tracer.kernels.tile import column_of, lanes_of, pack, padded, rows_max, without_overflow

_COLUMNS = 256
"""Columns of a product worked on at a time: few enough for the second-level cache, and for close bounds."""
_ROWS = 16
"""Rows of a product whose factors are gathered at a time: one line of the cache."""
_DEPTH = 4096
"""Factors put together at most."""


@inner
def run_end(at, end, track, plan, state):
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
def contraction(at, end, base, size, track, constant, fresh, plan, state, like):
    """The (max, ×) products of the uses use_list[at:end], which are one product with the factors' lines put together.

    `fresh` tells that nothing competes yet for the scalars of this tensor.
    """
    r = plan.uses[plan.use_list[at]]
    rows, columns, depth = r[D1], r[D2], r[K]
    target = r[TARGET]
    number = end - at
    whole = depth * number
    ids = array_at(r[ID_TABLE], r[D0] * rows * columns, TABLE)
    factor = abs(constant)
    deep = whole >= DEEP
    lanes = lanes_of(like)
    width = padded(min(columns, _COLUMNS), lanes)
    ks, counts = np.empty((_ROWS, whole), np.int64), np.zeros(_ROWS, np.int64)
    best = np.empty((_ROWS, width), like.dtype)
    index = np.empty((_ROWS, width), state.wide.dtype)
    packed = np.empty(whole * width, like.dtype)
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
    # Rows of scalars that do not overlap, and no table: each scalar is then met once.
    apart = fresh and r[ID_TABLE] == 0 and r[D0] == 1 and r[ID_S2] == 1 and (rows == 1 or r[ID_S1] >= columns)
    first, last = r[LO] // columns, (r[HI] - 1) // columns + 1
    bad = 0
    for i0 in range(r[D0]):
        row_lo, row_hi = max(first - i0 * rows, 0), min(last - i0 * rows, rows)
        if row_lo >= row_hi:
            continue
        for start in range(0, columns, _COLUMNS):
            span = min(_COLUMNS, columns - start)
            width = padded(span, lanes)
            for t in range(number):
                q = plan.uses[plan.use_list[at + t]]
                address = state.pointers[q[B]] if q[B] >= 0 else state.h_address[q[TARGET]]
                b = array_at(address + (i0 * q[B_S0] + start * q[B_SN]) * like.itemsize, reach_b, like)
                bad += pack(b, q[B_SK], q[B_SN], depth, span, t * depth, whole, width, lanes, largest, packed)
            bounded = deep and row_hi - row_lo >= _ROWS
            if bounded:
                line_tops(packed, whole, width, lanes, tops)
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
                if bounded:
                    for i in range(count_rows):
                        counts[i] = bounded_row_max(
                            panel[i], tops, whole, packed, span, width, lanes, largest, ratio, bounds, ks[i], best[i],
                            index[i],
                        )  # fmt: skip
                        kept += counts[i]
                    asked += count_rows * whole
                    bounded = kept < KEPT * asked
                else:
                    rows_max(panel, count_rows, whole, packed, width, lanes, ks, counts, best, index)
                for i in range(count_rows):
                    i1 = top_row + i
                    if counts[i] == 0:
                        continue
                    bad += without_overflow(
                        panel[i], ks[i], counts[i], packed, span, whole, width, lanes, largest, best[i], index[i]
                    )
                    flat = i0 * r[U0] + i1 * r[U1] + start * r[U2]
                    along = (i0 * rows + i1) * columns + start
                    id0 = r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] + start * r[ID_S2]
                    if apart and base <= id0 and id0 + span <= base + size:
                        take(
                            id0, flat, r[U2], span, best[i], index[i], use_of, onto, number == 1, r[UK], state.best,
                            state.onward_id, state.via_use,
                        )  # fmt: skip
                    else:
                        merge(
                            id0, r[ID_S2], ids, along, r[ID_TABLE] != 0, base, size, flat, r[U2], span, best[i], index[i],
                            use_of, onto, plan.ops, state.best, state.onward_id, state.via_use,
                        )  # fmt: skip
                    if not track:
                        continue
                    for n in range(span):
                        v = id_at(r, ids, along + n, i0, i1, start + n) - base
                        if index[i, n] < 0 or not 0 <= v < size:
                            continue
                        if blocks:
                            state.sets[v] = add_blocks(
                                state.sets[v], panel[i], column_of(packed, n, whole, width, lanes), depth, flat + n * r[U2],
                                target, plan, state,
                            )  # fmt: skip
                        else:
                            note(v, flat + n * r[U2] + np.int64(index[i, n]) * r[UK], target, plan, state)
    if bad > 0:
        state.meters[NON_FINITE] += bad


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
