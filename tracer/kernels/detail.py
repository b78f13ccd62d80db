"""All candidates of one scalar, one by one: the weight, the gradient and the margin at a vertex of a path."""

from __future__ import annotations

import numba as nb
import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.candidates import TABLE, top_exponent
from gradtrace.tracer.kernels.jacobian_rows import row_weight
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
    LO,
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
from gradtrace.tracer.kernels.positions import stands_at, stands_once

BEST, SECOND, NEXT, VIA, WEIGHT = 0, 1, 2, 3, 4
"""Indices into what `detail` fills in."""


@nb.njit(cache=True, nogil=True, boundscheck=False)
def detail(tensor, v, plan, state, like, found):
    """Fill `found` (float64[5]) with the best value, the runner-up, the winner's id (-1: none), use and signed weight."""
    found[BEST] = 0
    found[SECOND] = 0
    found[NEXT] = -1
    found[VIA] = -1
    found[WEIGHT] = 0
    wanted = plan.base[tensor] + v
    reference = top_exponent(tensor, plan, state)
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        use = plan.use_list[at]
        r = plan.uses[use]
        if state.h_address[r[TARGET]] == 0 or r[HI] <= r[LO]:
            continue
        shift = state.exponent[r[TARGET]] - reference
        scale = 2.0**shift
        d12 = r[D1] * r[D2]
        if r[ID_TABLE] == 0:
            j = stands_once(r, wanted)
            if j >= 0:
                _at(use, j // d12, (j // r[D2]) % r[D1], j % r[D2], scale, plan, state, like, found)
            if j >= -1:
                continue
            js, m = stands_at(r, wanted)
            for p in range(m):
                _at(use, js[p] // d12, (js[p] // r[D2]) % r[D1], js[p] % r[D2], scale, plan, state, like, found)
            continue
        ids = array_at(r[ID_TABLE], r[D0] * d12, TABLE)
        for j in range(r[LO], r[HI]):
            if ids[j] == wanted:
                _at(use, j // d12, (j // r[D2]) % r[D1], j % r[D2], scale, plan, state, like, found)


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _consider(use, flat, value, weight, plan, state, found):
    if not (value > 0 and value <= state.largest):
        return
    u = plan.base[plan.uses[use, TARGET]] + flat
    via = np.int64(found[VIA])
    wins = value > found[BEST]
    if value == found[BEST] and via >= 0 and plan.uses[via, OP] == plan.uses[use, OP] and u < found[NEXT]:
        wins = True
    if wins:
        found[SECOND] = found[BEST]
        found[BEST] = value
        found[NEXT] = u
        found[VIA] = use
        found[WEIGHT] = weight
    elif value > found[SECOND]:
        found[SECOND] = value


@nb.njit(cache=True, nogil=True, boundscheck=False)
def _at(use, i0, i1, i2, scale, plan, state, like, found):
    """Offer every candidate of position (i0, i1, i2) of one use. `scale` aligns exponents; weights are given without it."""
    r = plan.uses[use]
    target = r[TARGET]
    h = array_at(state.h_address[target], plan.size[target], like)
    constant = like.dtype.type(plan.constants[use])
    scaled = like.dtype.type(plan.constants[use] * scale)
    n = r[D0] * r[D1] * r[D2]
    j = (i0 * r[D1] + i1) * r[D2] + i2
    if r[KIND] == PAIRS:
        if r[OUT_TABLE] == 0:
            flat = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1] + i2 * r[OUT_S2]
        else:
            flat = np.int64(array_at(r[OUT_TABLE], n, TABLE)[j])
        if r[VALUES] >= 0:
            if state.pointers[r[VALUES]] == 0:
                return
            value = array_at(state.pointers[r[VALUES]], n, like)[j]
            weight = value / h[flat] if h[flat] != 0 else like.dtype.type(0)
            _consider(use, flat, abs(value), weight, plan, state, found)
        elif r[WEIGHTS] >= 0:
            weight = array_at(state.pointers[r[WEIGHTS]], n, like)[j]
            _consider(use, flat, abs(weight * scaled) * abs(h[flat]), weight * constant, plan, state, found)
        else:
            _consider(use, flat, abs(scaled) * abs(h[flat]), constant, plan, state, found)
    elif r[KIND] == MM:
        a_address = state.pointers[r[A]] if r[A] >= 0 else state.h_address[target]
        b_address = state.pointers[r[B]] if r[B] >= 0 else state.h_address[target]
        a, b = array_at(a_address, 1, like), array_at(b_address, 1, like)
        at_a, at_b = i0 * r[A_S0] + i1 * r[A_SM], i0 * r[B_S0] + i2 * r[B_SN]
        flat = i0 * r[U0] + i1 * r[U1] + i2 * r[U2]
        for k in range(r[K]):
            x, y = a[at_a + k * r[A_SK]], b[at_b + k * r[B_SK]]
            weight = constant * (y if r[A] < 0 else x)
            _consider(use, flat + k * r[UK], (abs(x) * abs(scaled)) * abs(y), weight, plan, state, found)
    else:
        d, inner = r[D1], r[D2]
        row = array_at(state.pointers[r[ROW]], n, like)
        spread = array_at(state.pointers[max(r[ROW_SCALE], 0)], r[D0], like)
        gain = array_at(state.pointers[max(r[ROW_WEIGHT], 0)], d, like)
        for i in range(d):
            weight = row_weight(r, i0, i, i1, d, inner, i2, row, spread, gain) * constant
            flat = (i0 * d + i) * inner + i2
            _consider(use, flat, abs(weight * like.dtype.type(scale)) * abs(h[flat]), weight, plan, state, found)
