"""Sum and maximum of |w·h| over all scalar edges of every use, without forming the products of contractions.

For a contraction Σ_k,m,n |A[k,m]|·|B[k,n]| = Σ_m Σ_k |A[k,m]| · (Σ_n |B[k,n]|), and the largest product has the largest
factor at each k; so both cost as much as reading the operands.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.candidates import _TABLE, _id, row_weight
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
    ID_TABLE,
    KIND,
    LAYER_NORM,
    LO,
    MM,
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
    VALUES,
    WEIGHTS,
    A,
    B,
    K,
)  # fmt: skip


@nb.njit(cache=True, nogil=True, boundscheck=False)
def flows(owner, plan, state, flow, peak, like):
    """Fill flow and peak (float64 [uses]); `owner` (int64 [uses]) is the source tensor of each use."""
    for use in range(plan.uses.shape[0]):
        r = plan.uses[use]
        if state.h_address[r[TARGET]] == 0 or r[HI] <= r[LO]:
            continue
        h = array_at(state.h_address[r[TARGET]], plan.size[r[TARGET]], like)
        base = plan.base[owner[use]]
        size = plan.size[owner[use]]
        constant = abs(like.dtype.type(plan.constants[use]))
        if r[KIND] == PAIRS:
            total, top = _pairs(r, base, size, constant, h, state, like)
        elif r[KIND] == MM:
            total, top = _contraction(r, base, size, constant, state, like)
        else:
            total, top = _rows(r, base, size, constant, h, state, like)
        flow[use] = total
        peak[use] = top


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _pairs(r, base, size, constant, h, state, like):
    n = r[D0] * r[D1] * r[D2]
    values_slot, weights_slot = r[VALUES], r[WEIGHTS]
    if values_slot >= 0 and state.pointers[values_slot] == 0:
        return 0.0, 0.0
    values = array_at(state.pointers[max(values_slot, 0)], n, like)
    weights = array_at(state.pointers[max(weights_slot, 0)], n, like)
    ids = array_at(r[ID_TABLE], n, _TABLE)
    outs = array_at(r[OUT_TABLE], n, _TABLE)
    total, top = 0.0, 0.0
    for i0 in range(r[D0]):
        for i1 in range(r[D1]):
            row = (i0 * r[D1] + i1) * r[D2]
            out_row = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1]
            for i2 in range(r[D2]):
                j = row + i2
                if j < r[LO] or j >= r[HI]:
                    continue
                if r[ID_TABLE] != 0 and not (0 <= ids[j] - base < size):
                    continue
                if values_slot >= 0:
                    value = abs(values[j])
                else:
                    flat = out_row + i2 * r[OUT_S2] if r[OUT_TABLE] == 0 else np.int64(outs[j])
                    w = abs(weights[j] * constant) if weights_slot >= 0 else constant
                    value = w * abs(h[flat])
                if value < np.inf:
                    total += value
                    top = max(top, value)
    return total, top


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _contraction(r, base, size, constant, state, like):
    rows, columns, depth = r[D1], r[D2], r[K]
    a_address = state.pointers[r[A]] if r[A] >= 0 else state.h_address[r[TARGET]]
    b_address = state.pointers[r[B]] if r[B] >= 0 else state.h_address[r[TARGET]]
    a, b = array_at(a_address, 1, like), array_at(b_address, 1, like)
    ids = array_at(r[ID_TABLE], r[D0] * rows * columns, _TABLE)
    total, top = 0.0, 0.0
    sums = np.zeros(depth)
    tops = np.zeros(depth)
    first, last = r[LO] // columns, (r[HI] - 1) // columns + 1
    for i0 in range(r[D0]):
        lo, hi = max(first - i0 * rows, 0), min(last - i0 * rows, rows)
        previous_lo = previous_hi = np.int64(-1)
        for i1 in range(lo, hi):
            # The columns that this row takes from the source: one run, unless scalars were shuffled one by one.
            n_lo, n_hi, holes = np.int64(0), columns, False
            if r[ID_TABLE] != 0:
                n_lo, n_hi, inside = columns, np.int64(0), np.int64(0)
                for n in range(columns):
                    v = _id(r, ids, i0, i1, n, rows, columns) - base
                    if 0 <= v < size:
                        n_lo, n_hi, inside = min(n_lo, n), n + 1, inside + 1
                holes = inside != n_hi - n_lo
                if inside == 0:
                    continue
            if holes or n_lo != previous_lo or n_hi != previous_hi:
                for k in range(depth):
                    s, t = 0.0, 0.0
                    for n in range(n_lo, n_hi):
                        if holes:
                            v = _id(r, ids, i0, i1, n, rows, columns) - base
                            if not 0 <= v < size:
                                continue
                        x = abs(b[i0 * r[B_S0] + k * r[B_SK] + n * r[B_SN]])
                        if x < np.inf:
                            s += x
                            t = max(t, x)
                    sums[k], tops[k] = s, t
                previous_lo, previous_hi = (np.int64(-1), np.int64(-1)) if holes else (n_lo, n_hi)
            for k in range(depth):
                x = abs(a[i0 * r[A_S0] + k * r[A_SK] + i1 * r[A_SM]]) * constant
                if x < np.inf:
                    total += x * sums[k]
                    top = max(top, x * like.dtype.type(tops[k]))
    return total, top


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _rows(r, base, size, constant, h, state, like):
    outer, d, inner = r[D0], r[D1], r[D2]
    n = outer * d * inner
    row = array_at(state.pointers[r[ROW]], n, like)
    scale = array_at(state.pointers[max(r[ROW_SCALE], 0)], outer, like)
    weight = array_at(state.pointers[max(r[ROW_WEIGHT], 0)], d, like)
    ids = array_at(r[ID_TABLE], n, _TABLE)
    total, top = 0.0, 0.0
    # Softmax and log-softmax: off the diagonal |w_ij·h_i| is factor_i · shared_j, so sums and the two largest suffice.
    factor = np.empty(d, like.dtype)
    for i0 in range(outer):
        for i2 in range(inner):
            everything = 0.0
            first = second = like.dtype.type(0)
            if r[KIND] != LAYER_NORM:
                for i in range(d):
                    x = abs(h[(i0 * d + i) * inner + i2]) * constant
                    if r[KIND] == SOFTMAX:
                        x *= abs(row[(i0 * d + i) * inner + i2])
                    if not x < np.inf:
                        x = like.dtype.type(0)
                    factor[i] = x
                    everything += x
                    if x > first:
                        first, second = x, first
                    elif x > second:
                        second = x
            for j in range(d):
                v = _id(r, ids, i0, j, i2, d, inner) - base
                if not 0 <= v < size:
                    continue
                at_j = (i0 * d + j) * inner + i2
                if r[KIND] == LAYER_NORM:
                    for i in range(d):
                        w = row_weight(r, i0, i, j, d, inner, i2, row, scale, weight)
                        value = abs(w) * constant * abs(h[(i0 * d + i) * inner + i2])
                        if value < np.inf:
                            total += value
                            top = max(top, value)
                    continue
                shared = abs(row[at_j]) if r[KIND] == SOFTMAX else np.exp(row[at_j])
                own = factor[j] * abs(1 - shared)
                total += shared * (everything - factor[j]) + own
                top = max(top, own, shared * (second if factor[j] == first else first))
    return total, top
