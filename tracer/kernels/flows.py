"""Sum and maximum of |w·h| over all scalar edges of every use, without forming the products of contractions.

For a contraction Σ_k,m,n |A[k,m]|·|B[k,n]| = Σ_k (Σ_m |A[k,m]|)·(Σ_n |B[k,n]|), and the largest product has the largest
factors at some k; so both cost as much as reading the operands. What is not finite is left out.
"""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.bits import magnitude_bits, of_bits, total_and_largest
from gradtrace.tracer.kernels.compiled import entry, inner, sums
from gradtrace.tracer.kernels.jacobian_rows import ROUNDING, normalised_row, off_diagonal, row_factors
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
    VALUES,
    WEIGHT_ROWS,
    WEIGHTS,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.kernels.offers import TABLE
from gradtrace.tracer.kernels.state import NON_FINITE
from gradtrace.tracer.kernels.views import bare_plan, bare_state


@entry
def flows(order, plan, state, flow, peak, like):
    """Fill flow and peak (float64 [uses]), use by use in the order given (contractions that share a factor together)."""
    plan, state = bare_plan(plan), bare_state(state)
    sums, tops = np.zeros(1), np.zeros(1)
    held = (np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0))
    for at in range(order.shape[0]):
        use = order[at]
        r = plan.uses[use]
        target = plan.targets[use]
        if state.h_address[target] == 0 or r[HI] <= r[LO]:
            continue
        h = array_at(state.h_address[target], plan.size[target], like)
        base, size = plan.base[plan.owners[use]], plan.size[plan.owners[use]]
        constant = abs(like.dtype.type(plan.constants[use]))
        if r[KIND] == PAIRS:
            total, top = _pairs(r, base, size, constant, h, state, like)
        elif r[KIND] == MM and r[ID_TABLE] == 0:
            a_address = state.pointers[r[A]] if r[A] >= 0 else state.h_address[target]
            b_address = state.pointers[r[B]] if r[B] >= 0 else state.h_address[target]
            groups = r[D0] if r[B_S0] != 0 else np.int64(1)
            wanted = (b_address, r[K], r[D2], r[B_S0], r[B_SK], r[B_SN], groups)
            if wanted != held:
                held = wanted
                sums, tops = np.zeros(groups * r[K]), np.zeros(groups * r[K])
                for i0 in range(groups):
                    _lines(
                        array_at(
                            b_address, r[B_S0] * (groups - 1) + (r[K] - 1) * r[B_SK] + (r[D2] - 1) * r[B_SN] + 1, like
                        ),
                        i0 * r[B_S0],
                        r[B_SK],
                        r[B_SN],
                        r[K],
                        r[D2],
                        i0 * r[K],
                        sums,
                        tops,
                    )
            total, top = _product(
                array_at(a_address, (r[D0] - 1) * r[A_S0] + (r[K] - 1) * r[A_SK] + (r[D1] - 1) * r[A_SM] + 1, like),
                r[D0],
                r[A_S0],
                r[A_SK],
                r[A_SM],
                r[K],
                r[D1],
                sums,
                tops,
                groups > 1,
            )
            total, top = total * constant, top * constant
        elif r[KIND] == MM:
            total, top = _contraction(r, target, base, size, constant, state, like)
        else:
            total, top = _rows(r, base, size, constant, h, state, like)
        if not total < np.inf:
            state.meters[NON_FINITE] += 1
            total, top = _finite(r, target, base, size, constant, h, state, like)
        flow[use] = total
        peak[use] = top


@inner
def _finite(r, target, base, size, constant, h, state, like):
    if r[KIND] == PAIRS:
        return _pairs_at(r, base, size, constant, h, state, like)
    if r[KIND] == MM:
        return _contraction(r, target, base, size, constant, state, like)
    return _rows(r, base, size, constant, h, state, like)


@sums
def _lines(b, start, k_step, n_step, depth, columns, into, sums, tops):
    """sums[into + k] = Σ_n |b[k, n]| and tops alike, whichever way the factor lies in memory."""
    if k_step == 1 and n_step != 1:
        for n in range(columns):
            _add_line(b[start + n * n_step :], depth, sums[into:], tops[into:])
        return
    for k in range(depth):
        row = start + k * k_step
        if n_step == 1:
            total, top = total_and_largest(b[row:], columns)
        else:
            total, top = 0.0, 0.0
            for n in range(columns):
                x = abs(np.float64(b[row + n * n_step]))
                total += x
                top = x if x > top else top
        sums[into + k], tops[into + k] = total, top


@inner
def _add_line(b, depth, sums, tops):
    for k in range(depth):
        x = abs(np.float64(b[k]))
        sums[k] += x
        tops[k] = x if x > tops[k] else tops[k]


@sums
def _weighted(a, sums, tops, depth):
    total = 0.0
    best = magnitude_bits(0.0)
    for k in range(depth):
        x = np.float64(a[k])
        total += abs(x) * sums[k]
        one = magnitude_bits(x * tops[k])
        best = one if one > best else best
    return total, of_bits(best, 0.0)


@sums
def _product(a, batches, batch_step, k_step, m_step, depth, rows, sums, tops, batched):
    total, top = 0.0, 0.0
    for i0 in range(batches):
        start, into = i0 * batch_step, (i0 * depth if batched else 0)
        if k_step == 1:
            for m in range(rows):
                whole, one_top = _weighted(a[start + m * m_step :], sums[into:], tops[into:], depth)
                total += whole
                top = max(top, one_top)
        else:
            for k in range(depth):
                row = start + k * k_step
                if m_step == 1:
                    whole, one_top = total_and_largest(a[row:], rows)
                else:
                    whole, one_top = 0.0, 0.0
                    for m in range(rows):
                        x = abs(np.float64(a[row + m * m_step]))
                        whole += x
                        one_top = x if x > one_top else one_top
                total += whole * sums[into + k]
                top = max(top, one_top * tops[into + k])
    return total, top


@inner
def _pairs(r, base, size, constant, h, state, like):
    n = r[D0] * r[D1] * r[D2]
    if r[ID_TABLE] == 0 and r[LO] == 0 and r[HI] == n:
        if r[VALUES] >= 0:
            if state.pointers[r[VALUES]] == 0:
                return 0.0, 0.0
            return total_and_largest(array_at(state.pointers[r[VALUES]], n, like), n)
        if r[WEIGHTS] < 0 and r[OUT_TABLE] == 0 and r[OUT_S2] == 1:
            total, top = 0.0, 0.0
            for i0 in range(r[D0]):
                for i1 in range(r[D1]):
                    one, one_top = total_and_largest(h[r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1] :], r[D2])
                    total += one
                    top = max(top, one_top)
            return total * constant, top * constant
    return _pairs_at(r, base, size, constant, h, state, like)


@inner
def _pairs_at(r, base, size, constant, h, state, like):
    n = r[D0] * r[D1] * r[D2]
    values_slot, weights_slot = r[VALUES], r[WEIGHTS]
    if values_slot >= 0 and state.pointers[values_slot] == 0:
        return 0.0, 0.0
    values = array_at(state.pointers[max(values_slot, 0)], n, like)
    weights = array_at(state.pointers[max(weights_slot, 0)], n, like)
    ids = array_at(r[ID_TABLE], n, TABLE)
    outs = array_at(r[OUT_TABLE], n, TABLE)
    by_id, by_out, lo, hi, d1, d2, step = r[ID_TABLE] != 0, r[OUT_TABLE] != 0, r[LO], r[HI], r[D1], r[D2], r[OUT_S2]
    total, top = 0.0, 0.0
    for i0 in range(r[D0]):
        for i1 in range(d1):
            row = (i0 * d1 + i1) * d2
            out_row = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1]
            for i2 in range(d2):
                j = row + i2
                if j < lo or j >= hi:
                    continue
                if by_id and not (0 <= ids[j] - base < size):
                    continue
                if values_slot >= 0:
                    value = abs(values[j])
                else:
                    flat = out_row + i2 * step if not by_out else np.int64(outs[j])
                    w = abs(weights[j]) * constant if weights_slot >= 0 else constant
                    value = w * abs(h[flat])
                if value < np.inf:
                    total += value
                    top = max(top, value)
    return total, np.float64(top)


@inner
def _contraction(r, target, base, size, constant, state, like):
    """A contraction some of whose scalars belong elsewhere (or are not finite): position by position."""
    rows, columns, depth = r[D1], r[D2], r[K]
    a_address = state.pointers[r[A]] if r[A] >= 0 else state.h_address[target]
    b_address = state.pointers[r[B]] if r[B] >= 0 else state.h_address[target]
    a, b = array_at(a_address, 1, like), array_at(b_address, 1, like)
    ids = array_at(r[ID_TABLE], r[D0] * rows * columns, TABLE)
    total, top = 0.0, 0.0
    sums = np.zeros(depth)
    tops = np.zeros(depth)
    first, last = r[LO] // columns, (r[HI] - 1) // columns + 1
    for i0 in range(r[D0]):
        lo, hi = max(first - i0 * rows, 0), min(last - i0 * rows, rows)
        previous_lo = previous_hi = np.int64(-1)
        for i1 in range(lo, hi):
            # The columns that this row takes from the source: one run, unless scalars were shuffled one by one.
            n_lo, n_hi, inside = columns, np.int64(0), np.int64(0)
            at = (i0 * rows + i1) * columns
            for n in range(columns):
                if _mine(r, ids, at + n, i0, i1, n, base, size):
                    n_lo, n_hi, inside = min(n_lo, n), n + 1, inside + 1
            if inside == 0:
                continue
            holes = inside != n_hi - n_lo
            if holes or n_lo != previous_lo or n_hi != previous_hi:
                for k in range(depth):
                    s, t = 0.0, 0.0
                    for n in range(n_lo, n_hi):
                        if holes and not _mine(r, ids, at + n, i0, i1, n, base, size):
                            continue
                        x = abs(b[i0 * r[B_S0] + k * r[B_SK] + n * r[B_SN]])
                        if x < np.inf:
                            s += x
                            t = max(t, np.float64(x))
                    sums[k], tops[k] = s, t
                previous_lo, previous_hi = (np.int64(-1), np.int64(-1)) if holes else (n_lo, n_hi)
            for k in range(depth):
                x = abs(a[i0 * r[A_S0] + k * r[A_SK] + i1 * r[A_SM]]) * constant
                if x < np.inf:
                    total += x * sums[k]
                    top = max(top, x * tops[k])
    return total, top


@inner
def _mine(r, ids, at, i0, i1, i2, base, size):
    if r[ID_TABLE] == 0:
        v = r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] + i2 * r[ID_S2] - base
    else:
        v = np.int64(ids[at]) - base
    return 0 <= v < size


@inner
def _rows(r, base, size, constant, h, state, like):
    outer, d, inner = r[D0], r[D1], r[D2]
    n = outer * d * inner
    row = array_at(state.pointers[r[ROW]], n, like)
    scale = array_at(state.pointers[max(r[ROW_SCALE], 0)], outer, like)
    weight = array_at(state.pointers[max(r[ROW_WEIGHT], 0)], d * max(r[WEIGHT_ROWS], 1), like)
    ids = array_at(r[ID_TABLE], n, TABLE)
    total, top = 0.0, 0.0
    # Off the diagonal |w_ij·h_i| is factor_i times what depends on i and j in a way that sums over a row can be had of.
    factor = np.empty(d, like.dtype)
    for i0 in range(outer):
        for i2 in range(inner):
            first, second, _ = row_factors(r, row, h, scale, weight, i0, i2, constant, state.largest, factor)
            start = i0 * d * inner + i2
            if r[KIND] == NORM:
                one, top = _normalised(r, ids, base, size, row, start, d, i0, factor, state.largest, np.float64(top))
                total += one
                continue
            everything = 0.0
            for i in range(d):
                everything += factor[i]
            for j in range(d):
                if not _mine(r, ids, (i0 * d + j) * inner + i2, i0, j, i2, base, size):
                    continue
                at_j = start + j * inner
                shared = abs(row[at_j]) if r[KIND] == SOFTMAX else np.exp(row[at_j])
                own = factor[j] * abs(1 - shared)
                total += shared * (everything - factor[j]) + own
                other = second if j == first else first
                top = max(top, own, shared * factor[other] if other >= 0 else own)
    return total, np.float64(top)


@inner
def _normalised(r, ids, base, size, row, start, d, group, factor, largest, top):
    """(total, the greater of `top` and the largest) of one row of a normalisation.

    By ascending x̂_i, 1 + x̂_i·x̂_j changes its sign once, so partial sums serve every j.
    """
    order = np.argsort(row[start : start + d])
    heights, slopes = np.zeros(d + 1), np.zeros(d + 1)
    for k in range(d):
        i = order[k]
        heights[k + 1] = heights[k] + factor[i]
        slopes[k + 1] = slopes[k] + np.float64(factor[i]) * np.float64(row[start + i])
    height, slope = off_diagonal(factor, row, start, d)
    hull, cuts, none = np.empty(0, np.int64), np.empty(0), np.int64(-1)
    total = 0.0
    for j in range(d):
        if not _mine(r, ids, start + j, group, j, 0, base, size):
            continue
        x = np.float64(row[start + j])
        low, high = np.int64(0), np.int64(d)  # the first k with 1 + x̂_k·x ≥ 0 (x > 0), or < 0
        while low < high:
            middle = (low + high) >> 1
            positive = 1 + row[start + order[middle]] * x >= 0
            if positive == (x > 0):
                high = middle
            else:
                low = middle + 1
        below = heights[low] + slopes[low] * x
        above = (heights[d] - heights[low]) + (slopes[d] - slopes[low]) * x
        own = np.float64(factor[j])
        whole = abs(below) + abs(above) - own * abs(1 + x * x) + own * abs(d - 1 - x * x)
        if whole < np.inf:
            total += whole
        # The largest of a row is looked for only where it may be larger than what is known: a bound tells, with room for rounding.
        if not max(own * abs(d - 1 - x * x), height + slope * abs(x)) * ROUNDING < top:
            value, _ = normalised_row(factor, row, start, d, j, largest, hull, cuts, none)
            top = max(top, np.float64(value))
    return total, top
