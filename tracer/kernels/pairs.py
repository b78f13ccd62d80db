"""Candidates of operators in which one scalar feeds one output (elementwise), or one of each line of them (broadcast)."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.compiled import inner
from gradtrace.tracer.kernels.layout import (
    D0,
    D1,
    D2,
    HI,
    ID_S0,
    ID_S1,
    ID_S2,
    ID_START,
    ID_TABLE,
    LO,
    OUT_S0,
    OUT_S1,
    OUT_S2,
    OUT_START,
    OUT_TABLE,
    TARGET,
    VALUES,
    WEIGHTS,
)  # fmt: skip
from gradtrace.tracer.kernels.merge import merge
from gradtrace.tracer.kernels.offers import TABLE, id_at, note
from gradtrace.tracer.kernels.state import NON_FINITE
from gradtrace.tracer.kernels.tile import lanes_of, pack, padded, row_max, without_overflow

_COLUMNS = 256
"""Columns of gradients worked on at a time."""
_LINES = 16
"""Lines of outputs from which on a product with one line of weights pays."""


@inner
def pairs(use, base, size, track, constant, h, plan, state, like):
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
            v = id_at(r, ids, j, i0, i1, i2) - base
            if not 0 <= v < size:
                continue
            flat = r[OUT_START] + i0 * r[OUT_S0] + i1 * r[OUT_S1] + i2 * r[OUT_S2]
            if r[OUT_TABLE] != 0:
                flat = np.int64(outs[j])
            value = abs(values[j]) if values_slot >= 0 else abs(constant) * abs(h[flat])
            if values_slot < 0 and weights_slot >= 0:
                value = abs(weights[j]) * abs(constant) * abs(h[flat])
            if value > 0 and value <= state.largest:
                note(v, flat, target, plan, state)


@inner
def copied(r):
    """Whether each scalar is read once by every line of the outputs, with one weight: a bias under a batch."""
    return (
        r[ID_TABLE] == 0 and r[OUT_TABLE] == 0 and r[VALUES] < 0 and r[WEIGHTS] < 0 and r[D0] == 1 and r[D1] >= _LINES
        and r[ID_S1] == 0 and r[LO] == 0 and r[HI] == r[D1] * r[D2]
    )  # fmt: skip


@inner
def copies(use, base, size, constant, plan, state, like):
    """The product of one line of weights, all alike, with the gradients of the outputs."""
    r = plan.uses[use]
    target = r[TARGET]
    lines, columns, largest = r[D1], r[D2], state.largest
    lanes = lanes_of(like)
    width = padded(min(columns, _COLUMNS), lanes)
    packed = np.empty(lines * width, like.dtype)
    best, index = np.empty(width, like.dtype), np.empty(width, state.wide.dtype)
    column = np.full(lines, abs(constant))
    ks, use_of, onto = np.arange(lines), np.full(lines, use, np.int32), np.empty(lines, np.int64)
    for k in range(lines):
        onto[k] = plan.base[target] + k * r[OUT_S1]
    bad = 0
    for start in range(0, columns, _COLUMNS):
        span = min(_COLUMNS, columns - start)
        width = padded(span, lanes)
        flat = r[OUT_START] + start * r[OUT_S2]
        reach = (lines - 1) * r[OUT_S1] + (span - 1) * r[OUT_S2] + 1
        h = array_at(state.h_address[target] + flat * like.itemsize, reach, like)
        bad += pack(h, r[OUT_S1], r[OUT_S2], lines, span, 0, lines, width, lanes, largest, packed)
        row_max(column, ks, lines, packed, lines, width, lanes, best, index)
        bad += without_overflow(column, ks, lines, packed, span, lines, width, lanes, largest, best, index)
        merge(
            r[ID_START] + start * r[ID_S2], r[ID_S2], TABLE, 0, r[ID_TABLE] != 0, base, size, flat, r[OUT_S2], span, best,
            index, use_of, onto, plan.ops, state.best, state.onward_id, state.via_use,
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
