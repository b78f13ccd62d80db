"""The positions of a use at which given scalars stand: index maps, read backwards."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import inlined, inner
from gradtrace.tracer.kernels.layout import D0, D1, D2, HI, ID_S0, ID_S1, ID_S2, ID_START, ID_TABLE, LO


@inner
def positions_of(r, ids, where, count, base, size, slot, rank):
    """(q, j, m): the m pairs of an entry q of `where` and a position j of the use at which that scalar stands.

    Pairs come by q and then ascending j where the map is strided, by ascending j where it is a table.

    Args:
        r: the use's record.
        ids: its id table (any array where the map is strided).
        where: int64, flat indices of scalars in their tensor; `count` of them.
        base, size: of that tensor.
        slot: int32 [ids], ≥ 0 for the scalars asked for.
        rank: int32 [>= size], scratch.
    """
    if r[ID_TABLE] == 0:
        copies, dims, steps, weights, kind = _digits(r)
        if kind >= 0:
            return _strided(r, where, count, base, copies, dims, steps, weights, kind)
    return _scan(r, ids, where, count, base, size, slot, rank)


@inner
def _digits(r):
    """How to read a strided map backwards: dimensions with a stride, widest first, are digits; the others are copies.

    Returns (number of copies, sizes, strides, weights in j) with `kind` digits first, kind -1 if strides overlap.
    """
    dims = np.ones(3, np.int64)
    steps = np.zeros(3, np.int64)
    weights = np.zeros(3, np.int64)
    sizes = (r[D0], r[D1], r[D2])
    strides = (r[ID_S0], r[ID_S1], r[ID_S2])
    spans = (r[D1] * r[D2], r[D2], np.int64(1))
    kind = 0
    for d in range(3):
        if sizes[d] > 1 and strides[d] != 0:
            at = kind
            while at > 0 and steps[at - 1] < strides[d]:
                dims[at], steps[at], weights[at] = dims[at - 1], steps[at - 1], weights[at - 1]
                at -= 1
            dims[at], steps[at], weights[at] = sizes[d], strides[d], spans[d]
            kind += 1
    reach = np.int64(0)
    for at in range(kind - 1, -1, -1):
        if steps[at] <= reach:
            return np.int64(1), dims, steps, weights, np.int64(-1)
        reach += steps[at] * (dims[at] - 1)
    copies = np.int64(1)
    at = kind
    for d in range(3):
        if sizes[d] > 1 and strides[d] == 0:
            dims[at], weights[at] = sizes[d], spans[d]
            copies *= sizes[d]
            at += 1
    return copies, dims, steps, weights, np.int64(kind)


@inner
def _strided(r, where, count, base, copies, dims, steps, weights, kind):
    found_q = np.empty(count * copies, np.int32)
    found_j = np.empty(count * copies, np.int64)
    m = 0
    offset = base - r[ID_START]
    if kind == 1 and copies == 1 and steps[0] == 1:
        length, weight = dims[0], weights[0]
        for q in range(count):
            rest = where[q] + offset
            if 0 <= rest < length:
                found_q[m] = q
                found_j[m] = rest * weight
                m += 1
        return found_q, found_j, m
    s0, s1 = max(steps[0], 1), max(steps[1], 1)
    for q in range(count):
        rest = where[q] + offset
        if rest < 0:
            continue
        j = np.int64(0)
        if kind > 0:
            digit = rest // s0
            if digit >= dims[0]:
                continue
            rest -= digit * s0
            j += digit * weights[0]
        if kind > 1:
            digit = rest // s1
            if digit >= dims[1]:
                continue
            rest -= digit * s1
            j += digit * weights[1]
        if kind > 2:
            digit = rest // steps[2]
            if digit >= dims[2]:
                continue
            rest -= digit * steps[2]
            j += digit * weights[2]
        if rest != 0:
            continue
        if copies == 1:
            found_q[m] = q
            found_j[m] = j
            m += 1
            continue
        outer = dims[kind] if kind < 3 else np.int64(1)
        middle = dims[kind + 1] if kind < 2 else np.int64(1)
        inner = dims[kind + 2] if kind < 1 else np.int64(1)
        for a in range(outer):
            for b in range(middle):
                for c in range(inner):
                    at = j + a * weights[kind]
                    if kind < 2:
                        at += b * weights[kind + 1]
                    if kind < 1:
                        at += c * weights[kind + 2]
                    found_q[m] = q
                    found_j[m] = at
                    m += 1
    return found_q, found_j, m


@inner
def _scan(r, ids, where, count, base, size, slot, rank):
    for q in range(count):
        rank[where[q]] = q
    span = max(r[HI] - r[LO], 0)
    found_q = np.empty(span, np.int32)
    found_j = np.empty(span, np.int64)
    m = 0
    d12 = r[D1] * r[D2]
    for j in range(r[LO], r[HI]):
        if r[ID_TABLE] == 0:
            rest = j % d12
            v = r[ID_START] + (j // d12) * r[ID_S0] + (rest // r[D2]) * r[ID_S1] + (rest % r[D2]) * r[ID_S2] - base
        else:
            v = np.int64(ids[j]) - base
        if 0 <= v < size and slot[base + v] >= 0:
            found_q[m] = rank[v]
            found_j[m] = j
            m += 1
    return found_q, found_j, m


@inlined
def stands_once(r, id):
    """Position of a use with a strided map at which a scalar stands: -1 for nowhere, -2 where there may be several."""
    d0, d1, d2 = r[D0], r[D1], r[D2]
    s0, s1, s2 = r[ID_S0], r[ID_S1], r[ID_S2]
    rest = id - r[ID_START]
    j = np.int64(0)
    reach = s0 * (d0 - 1) + s1 * (d1 - 1) + s2 * (d2 - 1)
    for _ in range(3):
        # The widest stride that is left is the next digit.
        step, size, which = np.int64(0), np.int64(1), 0
        if d0 > 1:
            step, size, which = s0, d0, 1
        if d1 > 1 and (which == 0 or s1 > step):
            step, size, which = s1, d1, 2
        if d2 > 1 and (which == 0 or s2 > step):
            step, size, which = s2, d2, 3
        if which == 0:
            break
        reach -= step * (size - 1)
        if step <= reach:
            return np.int64(-2)
        if rest < 0:
            return np.int64(-1)
        digit = rest // step
        if digit >= size:
            return np.int64(-1)
        rest -= digit * step
        if which == 1:
            j += digit * r[D1] * r[D2]
            d0 = np.int64(1)
        elif which == 2:
            j += digit * r[D2]
            d1 = np.int64(1)
        else:
            j += digit
            d2 = np.int64(1)
    return j if rest == 0 else np.int64(-1)


@inner
def stands_at(r, id):
    """(js, m): the m positions of a use with a strided map at which one scalar stands."""
    copies, dims, steps, weights, kind = _digits(r)
    if kind >= 0:
        where = np.empty(1, np.int64)
        where[0] = id
        _, js, m = _strided(r, where, 1, 0, copies, dims, steps, weights, kind)
        return js, m
    js = np.empty(r[HI] - r[LO], np.int64)
    m = 0
    for j in range(r[LO], r[HI]):
        at = (
            r[ID_START] + (j // (r[D1] * r[D2])) * r[ID_S0] + ((j // r[D2]) % r[D1]) * r[ID_S1] + (j % r[D2]) * r[ID_S2]
        )
        if at == id:
            js[m] = j
            m += 1
    return js, m
