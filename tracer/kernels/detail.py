"""All candidates of one scalar, one by one: the weight, the gradient and the margin at a vertex of a path."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.candidates import top_exponent
from gradtrace.tracer.kernels.compiled import inlined
from gradtrace.tracer.kernels.jacobian_rows import row_output, row_weight
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
    WEIGHT_ROWS,
    WEIGHTS,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.kernels.offers import TABLE
from gradtrace.tracer.kernels.positions import stands_at, stands_once

BEST, SECOND, NEXT, VIA, WEIGHT = 0, 1, 2, 3, 4
"""Indices into what `detail` fills in."""


@inlined
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


@inlined
def _consider(use, u, value, runner_up, weight, ops, found):
    """Let the best candidate of one position, and the second best, compete with those of other positions."""
    if value > 0:
        via = np.int64(found[VIA])
        wins = value > found[BEST]
        if value == found[BEST] and via >= 0 and ops[via] == ops[use] and u < found[NEXT]:
            wins = True
        if wins:
            found[SECOND] = found[BEST]
            found[BEST] = value
            found[NEXT] = u
            found[VIA] = use
            found[WEIGHT] = weight
        elif value > found[SECOND]:
            found[SECOND] = value
        if runner_up > found[SECOND]:
            found[SECOND] = runner_up


@inlined
def _at(use, i0, i1, i2, scale, plan, state, like, found):
    """Offer every candidate of position (i0, i1, i2) of one use. `scale` aligns exponents; weights are given without it."""
    r = plan.uses[use]
    target = r[TARGET]
    h = array_at(state.h_address[target], plan.size[target], like)
    constant = like.dtype.type(plan.constants[use])
    scaled = like.dtype.type(plan.constants[use] * scale)
    n = r[D0] * r[D1] * r[D2]
    j = (i0 * r[D1] + i1) * r[D2] + i2
    base = plan.base[target]
    largest = state.largest
    if r[KIND] == PAIRS:
        if r[OUT_TABLE] == 0:
            flat = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1] + i2 * r[OUT_S2]
        else:
            flat = np.int64(array_at(r[OUT_TABLE], n, TABLE)[j])
        if r[VALUES] >= 0:
            if state.pointers[r[VALUES]] == 0:
                return
            own = array_at(state.pointers[r[VALUES]], n, like)[j]
            value = abs(own)
            weight = own / h[flat] if h[flat] != 0 else like.dtype.type(0)
        elif r[WEIGHTS] >= 0:
            w = array_at(state.pointers[r[WEIGHTS]], n, like)[j]
            value = abs(w * scaled) * abs(h[flat])
            weight = w * constant
        else:
            value = abs(scaled) * abs(h[flat])
            weight = constant
        if value <= largest:
            _consider(use, base + flat, value, like.dtype.type(0), weight, plan.ops, found)
    elif r[KIND] == MM:
        a_address = state.pointers[r[A]] if r[A] >= 0 else state.h_address[target]
        b_address = state.pointers[r[B]] if r[B] >= 0 else state.h_address[target]
        a, b = array_at(a_address, 1, like), array_at(b_address, 1, like)
        at_a, at_b = i0 * r[A_S0] + i1 * r[A_SM], i0 * r[B_S0] + i2 * r[B_SN]
        top, second, k = _two_largest(a, at_a, r[A_SK], b, at_b, r[B_SK], r[K], abs(scaled), largest)
        if k >= 0:
            weight = constant * (b[at_b + k * r[B_SK]] if r[A] < 0 else a[at_a + k * r[A_SK]])
            flat = i0 * r[U0] + i1 * r[U1] + i2 * r[U2] + k * r[UK]
            _consider(use, base + flat, top, second, weight, plan.ops, found)
    else:
        d, inner = r[D1], r[D2]
        row = array_at(state.pointers[r[ROW]], n, like)
        spread = array_at(state.pointers[max(r[ROW_SCALE], 0)], r[D0], like)
        gain = array_at(state.pointers[max(r[ROW_WEIGHT], 0)], d * max(r[WEIGHT_ROWS], 1), like)
        top, second, chosen = like.dtype.type(0), like.dtype.type(0), -1
        for i in range(d):
            w = row_weight(r, i0, i, i1, d, inner, i2, row, spread, gain) * constant
            value = abs(w * like.dtype.type(scale)) * abs(h[row_output(r, i0, i, i2)])
            if not value <= largest:
                continue
            if value > top:
                top, second, chosen = value, top, i
            elif value > second:
                second = value
        if chosen >= 0:
            weight = row_weight(r, i0, chosen, i1, d, inner, i2, row, spread, gain) * constant
            _consider(use, base + row_output(r, i0, chosen, i2), top, second, weight, plan.ops, found)


@inlined
def _two_largest(a, at_a, a_step, b, at_b, b_step, depth, factor, largest):
    """(largest, second largest, k of the largest) of |a[k]·b[k]|; k is -1 where all are zero."""
    top, second, at = a[0] * 0, a[0] * 0, -1
    for k in range(depth):
        value = (abs(a[at_a + k * a_step]) * factor) * abs(b[at_b + k * b_step])
        if value > top and value <= largest:
            top, second, at = value, top, k
        elif value > second and value <= largest:
            second = value
    return top, second, at
