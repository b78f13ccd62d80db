"""The best candidates of the visited scalars of one tensor, one by one: what no trace reaches costs nothing."""

from __future__ import annotations

import numba as nb
import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.bits import largest_product
from gradtrace.tracer.kernels.candidates import top_exponent
from gradtrace.tracer.kernels.compiled import inner
from gradtrace.tracer.kernels.component_sets import with_element
from gradtrace.tracer.kernels.contraction import add_blocks
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
from gradtrace.tracer.kernels.offers import TABLE, component_of, offer
from gradtrace.tracer.kernels.positions import positions_of
from gradtrace.tracer.kernels.state import NON_FINITE


@inner
def visit(tensor, where, count, best, onward, via, rank, track, plan, state, like):
    """Fill best, onward (an id) and via for the first `count` scalars in `where` (flat indices, int64) of one tensor.

    `best` stays 0 where every candidate is zero. With `track`, `state.sets` gets the candidate components of each.
    `rank` is scratch, int32, as long as the tensor.
    """
    base, size = plan.base[tensor], plan.size[tensor]
    best[:count] = 0
    if track:
        state.sets[:count] = 0
    reference = top_exponent(tensor, plan, state)
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        use = plan.use_list[at]
        target = plan.targets[use]
        r = plan.uses[use]
        if state.h_address[target] == 0 or r[HI] <= r[LO]:
            continue
        shift = state.exponent[target] - reference
        scaled = plan.constants[use] if shift == 0 else plan.constants[use] * 2.0**shift
        constant = like.dtype.type(scaled)
        ids = array_at(r[ID_TABLE], r[D0] * r[D1] * r[D2], TABLE)
        qs, js, m = positions_of(r, ids, where, count, base, size, state.slot, rank)
        if m == 0:
            continue
        h = array_at(state.h_address[target], plan.size[target], like)
        if r[KIND] == PAIRS:
            bad = _pairs(r, use, qs, js, m, constant, h, best, onward, via, plan, state, like)
        elif r[KIND] == MM:
            blocks = track and plan.comp_count[target] > 1 and r[UK] == 1
            bad = _contraction(r, use, qs, js, m, constant, best, onward, via, blocks, plan, state, like)
        else:
            bad = _rows(r, use, qs, js, m, constant, h, best, onward, via, plan, state, like)
        if bad > 0:
            state.meters[NON_FINITE] += bad
        if track:
            for p in range(m):
                if js[p] >= 0:
                    part = component_of(target, js[p], plan) + 1
                    state.sets[qs[p]] = with_element(state.sets[qs[p]], part, state.set_table)


# Each of the following looks at m pairs (q, j), lets the best candidate of j compete for q, leaves its output index in
# js (-1: none), and returns how many candidates were not finite.


@inner
def _pairs(r, use, qs, js, m, constant, h, best, onward, via, plan, state, like):
    values_slot, weights_slot = r[VALUES], r[WEIGHTS]
    if values_slot >= 0 and state.pointers[values_slot] == 0:
        js[:m] = -1
        return 0
    n = r[D0] * r[D1] * r[D2]
    values = array_at(state.pointers[max(values_slot, 0)], n, like)
    weights = array_at(state.pointers[max(weights_slot, 0)], n, like)
    outs = array_at(r[OUT_TABLE], n, TABLE)
    return _pairs_at(
        r, qs, js, m, outs, values, values_slot >= 0, weights, weights_slot >= 0, abs(constant), h,
        plan.base[plan.targets[use]], use, plan.ops, state.largest, best, onward, via,
    )  # fmt: skip


@inner
def _pairs_at(
    r, qs, js, m, outs, values, by_value, weights, by_weight, constant, h, target_base, use, ops, largest, best, onward, via
):  # fmt: skip
    bad = 0
    op = ops[use]
    flat_map = r[OUT_TABLE] == 0 and r[D0] == 1 and r[D1] == 1
    start, step = r[OUT_START], r[OUT_S2]
    d2, d1 = r[D2], r[D1]
    for p in range(m):
        j = js[p]
        if flat_map:
            flat = start + j * step
        elif r[OUT_TABLE] != 0:
            flat = np.int64(outs[j])
        else:
            row = j // d2
            flat = start + (row // d1) * r[OUT_S0] + (row % d1) * r[OUT_S1] + (j - row * d2) * step
        if by_value:
            value = abs(values[j])
        elif by_weight:
            value = abs(weights[j]) * constant * abs(h[flat])
        else:
            value = constant * abs(h[flat])
        if value > 0 and value <= largest:
            q, u = qs[p], target_base + flat
            held = best[q]
            if value > held:
                best[q] = value
                onward[q] = u
                via[q] = use
            elif value == held and ops[via[q]] == op and u < onward[q]:
                onward[q] = u
                via[q] = use
            js[p] = flat
        else:
            js[p] = -1
            bad += not value <= largest
    return bad


@inner
def _contraction(r, use, qs, js, m, constant, best, onward, via, blocks, plan, state, like):
    target = plan.targets[use]
    rows, columns, depth = r[D1], r[D2], r[K]
    if depth == 0:
        js[:m] = -1
        return 0
    a_address = state.pointers[r[A]] if r[A] >= 0 else state.h_address[target]
    b_address = state.pointers[r[B]] if r[B] >= 0 else state.h_address[target]
    width = like.itemsize
    a, b = array_at(a_address, 1, like), array_at(b_address, 1, like)
    factor = abs(constant)
    # A line of A (B) is what one row (column) of the product meets; a line with gaps is first copied together, for all
    # rows at once where enough of them are asked for.
    a_direct, b_direct = r[A_SK] == 1 and factor == 1, r[B_SK] == 1
    a_all, b_all = not a_direct and m * 2 > r[D0] * rows, not b_direct and m * 2 > r[D0] * columns
    a_lines = np.empty(((rows if a_all else 1) if not a_direct else 0, depth), like.dtype)
    b_lines = np.empty(((columns if b_all else 1) if not b_direct else 0, depth), like.dtype)
    a_at = b_at = np.int64(-1)
    target_base, largest = plan.base[target], state.largest
    bad = 0
    for p in range(m):
        i2 = js[p] % columns
        i1 = (js[p] // columns) % rows
        i0 = js[p] // (columns * rows)
        if a_direct:
            left = array_at(a_address + (i0 * r[A_S0] + i1 * r[A_SM]) * width, depth, like)
        elif a_all:
            if a_at != i0:
                _lines(a, i0 * r[A_S0], r[A_SM], r[A_SK], rows, depth, factor, a_lines)
                a_at = i0
            left = array_at(a_lines.ctypes.data + i1 * depth * width, depth, like)
        else:
            if a_at != i0 * rows + i1:
                _lines(a, i0 * r[A_S0] + i1 * r[A_SM], 0, r[A_SK], 1, depth, factor, a_lines)
                a_at = i0 * rows + i1
            left = array_at(a_lines.ctypes.data, depth, like)
        if b_direct:
            right = array_at(b_address + (i0 * r[B_S0] + i2 * r[B_SN]) * width, depth, like)
        elif b_all:
            if b_at != i0:
                _lines(b, i0 * r[B_S0], r[B_SN], r[B_SK], columns, depth, like.dtype.type(1), b_lines)
                b_at = i0
            right = array_at(b_lines.ctypes.data + i2 * depth * width, depth, like)
        else:
            if b_at != i0 * columns + i2:
                _lines(b, i0 * r[B_S0] + i2 * r[B_SN], 0, r[B_SK], 1, depth, like.dtype.type(1), b_lines)
                b_at = i0 * columns + i2
            right = array_at(b_lines.ctypes.data, depth, like)
        value, k = largest_product(left, right, depth)
        if not value <= largest:
            value, k, missed = _finite_product(left, right, depth, largest)
            bad += missed
        if k < 0:
            js[p] = -1
            continue
        flat = i0 * r[U0] + i1 * r[U1] + i2 * r[U2]
        offer(qs[p], value, target_base + flat + k * r[UK], use, plan.ops, best, onward, via)
        if blocks:
            state.sets[qs[p]] = add_blocks(state.sets[qs[p]], left, right, depth, flat, target, plan, state)
        js[p] = flat + k * r[UK] if not blocks else -1
    return bad


@inner
def _lines(source, start, line_step, step, count, depth, factor, out):
    """out[i, k] = |source[start + i * line_step + k * step]| * factor, in tiles that stay in the cache."""
    for k0 in range(0, depth, 32):
        k1 = min(k0 + 32, depth)
        for i in range(count):
            at = start + i * line_step
            for k in range(k0, k1):
                out[i, k] = abs(source[at + k * step]) * factor


@inner
def _finite_product(left, right, depth, largest):
    """`largest_product` among the finite ones, and how many were not."""
    top, at, bad = left.dtype.type(0), -1, 0
    for k in range(depth):
        value = abs(left[k] * right[k])
        if not value <= largest:
            bad += 1
        elif value > top:
            top = value
            at = k
    return top, nb.int64(at), bad


@inner
def _rows(r, use, qs, js, m, constant, h, best, onward, via, plan, state, like):
    outer, d, inner = r[D0], r[D1], r[D2]
    row = array_at(state.pointers[r[ROW]], outer * d * inner, like)
    scale = array_at(state.pointers[max(r[ROW_SCALE], 0)], outer, like)
    weight = array_at(state.pointers[max(r[ROW_WEIGHT], 0)], d * max(r[WEIGHT_ROWS], 1), like)
    target_base, largest = plan.base[plan.targets[use]], state.largest
    kind = r[KIND]
    factor = np.empty(d, like.dtype)
    hull, cuts, lines = np.empty(2 * d, np.int64), np.empty(2 * d), np.int64(-1)
    prepared = asked = np.int64(-1)
    first = second = np.int64(-1)
    height = slope = 0.0
    bad = 0
    for p in range(m):
        i2 = js[p] % inner
        j = (js[p] // inner) % d
        i0 = js[p] // (inner * d)
        start = i0 * d * inner + i2
        if prepared != start:
            prepared = start
            asked, lines = np.int64(0), np.int64(-1)
            first, second, missed = row_factors(r, row, h, scale, weight, i0, i2, abs(constant), largest, factor)
            bad += missed
            if kind == NORM:
                height, slope = off_diagonal(factor, row, start, d)
        if kind == NORM:
            value, i = on_diagonal(factor, row, start, d, j, largest, height, slope), np.int64(j)
            if value < 0:
                asked += 1
                if lines < 0:
                    lines = lines_of(factor, row, start, d, asked, hull, cuts)
                value, i = normalised_row(factor, row, start, d, j, largest, hull, cuts, lines)
        else:
            value, i = softmax_row(factor, row[start + j * inner], kind == SOFTMAX, j, first, second)
        if value > 0 and value <= largest:
            flat = row_output(r, i0, i, i2)
            offer(qs[p], value, target_base + flat, use, plan.ops, best, onward, via)
            js[p] = flat
        else:
            js[p] = -1
            bad += not value <= largest
    return bad
