"""Candidates of operators whose Jacobian is dense along rows: softmaxes and norms."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.compiled import inner
from gradtrace.tracer.kernels.jacobian_rows import (
    lines_of,
    normalised_row,
    off_diagonal,
    on_diagonal,
    row_factors,
    row_output,
    softmax_row,
)
from gradtrace.tracer.kernels.layout import (
    D0,
    D1,
    D2,
    HI,
    ID_TABLE,
    KIND,
    LO,
    NORM,
    ROW,
    ROW_SCALE,
    ROW_WEIGHT,
    SOFTMAX,
    TARGET,
    WEIGHT_ROWS,
)  # fmt: skip
from gradtrace.tracer.kernels.offers import TABLE, id_at, note, offer
from gradtrace.tracer.kernels.state import NON_FINITE


@inner
def dense_rows(use, base, size, track, constant, h, plan, state, like):
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
    asked, height, slope = np.int64(0), 0.0, 0.0
    bad = 0
    for i0 in range(r[LO] // (d * inner), (r[HI] - 1) // (d * inner) + 1):
        for i2 in range(inner):
            start = i0 * d * inner + i2
            first, second, missed = row_factors(r, row, h, scale, weight, i0, i2, abs(constant), largest, factor)
            bad += missed
            if r[KIND] == NORM:
                asked, lines = np.int64(0), np.int64(-1)
                height, slope = off_diagonal(factor, row, start, d)
            for j in range(d):
                id = id_at(r, ids, start + j * inner, i0, j, i2)
                if not base <= id < base + size:
                    continue
                if r[KIND] == NORM:
                    value, i = on_diagonal(factor, row, start, d, j, largest, height, slope), np.int64(j)
                    if value < 0:
                        asked += 1
                        if lines < 0:
                            lines = lines_of(factor, row, start, d, asked, hull, cuts)
                        value, i = normalised_row(factor, row, start, d, j, largest, hull, cuts, lines)
                else:
                    value, i = softmax_row(factor, row[start + j * inner], r[KIND] == SOFTMAX, j, first, second)
                if value > 0 and value <= largest:
                    flat = row_output(r, i0, i, i2)
                    offer(id, value, target_base + flat, use, plan.ops, state.best, state.onward_id, state.via_use)
                    if track:
                        note(id - base, flat, target, plan, state)
                else:
                    bad += not value <= largest
    if bad > 0:
        state.meters[NON_FINITE] += bad
