"""The inner loops of every (max, ×) product: a running maximum with its index over a list of rows, and which rows can win."""

from __future__ import annotations

from gradtrace.tracer.kernels.bits import magnitude_bits, of_bits
from gradtrace.tracer.kernels.compiled import inner

DEEP = 128
"""Factors from which on it pays to ask which of them can win."""
KEPT = 0.6
"""Part of the factors that may win on the whole, above which asking stops paying."""


@inner
def row_max(a, ks, count, b, width, best, index):
    """best[n] = max over the listed k of a[k] * b[k, n] (lowest k on ties); index[n] the k, or -1 where it is 0.

    Args:
        a: [K] non-negative finite values.
        ks: [>= count] ascending rows to look at (those with a[k] > 0).
        count: how many of `ks` count.
        b: [K, >= width] non-negative finite values, contiguous.
        width: columns to fill.
        best, index: [>= width] outputs; `index` as wide as the floats, so that the loop vectorises.

    Four rows are taken at a time: the running pair then stays in registers instead of crossing memory at every row.
    """
    for n in range(width):
        best[n] = 0
        index[n] = -1
    q = 0
    while q + 4 <= count:
        k0, k1, k2, k3 = ks[q], ks[q + 1], ks[q + 2], ks[q + 3]
        a0, a1, a2, a3 = a[k0], a[k1], a[k2], a[k3]
        b0, b1, b2, b3 = b[k0], b[k1], b[k2], b[k3]
        i0, i1, i2, i3 = index.dtype.type(k0), index.dtype.type(k1), index.dtype.type(k2), index.dtype.type(k3)
        for n in range(width):
            top = best[n]
            at = index[n]
            v = a0 * b0[n]
            at = i0 if v > top else at
            top = v if v > top else top
            v = a1 * b1[n]
            at = i1 if v > top else at
            top = v if v > top else top
            v = a2 * b2[n]
            at = i2 if v > top else at
            top = v if v > top else top
            v = a3 * b3[n]
            at = i3 if v > top else at
            top = v if v > top else top
            best[n] = top
            index[n] = at
        q += 4
    while q < count:
        k0 = ks[q]
        a0 = a[k0]
        b0 = b[k0]
        i0 = index.dtype.type(k0)
        for n in range(width):
            top = best[n]
            at = index[n]
            v = a0 * b0[n]
            at = i0 if v > top else at
            top = v if v > top else top
            best[n] = top
            index[n] = at
        q += 1


@inner
def positive(a, depth, ks):
    """The k where a[k] > 0, in `ks`; returns how many."""
    count = 0
    for k in range(depth):
        ks[count] = k
        count += a[k] > 0
    return count


@inner
def line_tops(b, depth, width, tops):
    """tops[k] = max over n < width of b[k, n], for non-negative finite entries."""
    for k in range(depth):
        line = b[k]
        top = magnitude_bits(line[0])
        for n in range(width):
            here = magnitude_bits(line[n])
            top = here if here > top else top
        tops[k] = of_bits(top, line[0])


@inner
def _at_least(bounds, depth, floor, ks):
    """The k where bounds[k] ≥ floor, in `ks`; returns how many."""
    count = 0
    for k in range(depth):
        ks[count] = k
        count += bounds[k] >= floor
    return count


@inner
def _bounds(a, tops, depth, bounds):
    top = magnitude_bits(a.dtype.type(0))
    for k in range(depth):
        bound = a[k] * tops[k]
        bounds[k] = bound
        here = magnitude_bits(bound)
        top = here if here > top else top
    return of_bits(top, a[0])


@inner
def bounded_row_max(a, tops, depth, b, width, largest, ratio, bounds, ks, best, index):
    """`row_max` over all k < depth with a[k] > 0, leaving out those that cannot win; how many it looked at in the end.

    No product of row k exceeds a[k] * tops[k], rounding included, since rounding keeps order. So after a look at the rows
    with the highest bounds, those whose bound lies below the least maximum found so far cannot attain any column's maximum.
    Rows that can are looked at in ascending order: ties go to the lowest k as ever.

    Args:
        tops: [K], the largest entry of each row of b, see `line_tops`.
        largest: of the finite floats.
        ratio: [1], where to draw the first line, as a part of the highest bound; kept from call to call.
        bounds, ks: [>= depth], scratch; on return `ks` lists the rows that were looked at.
        a, b, width, best, index: as for `row_max`.
    """
    highest = _bounds(a, tops, depth, bounds)
    if highest == 0 or not highest <= largest:  # where a product may overflow, every row counts
        count = positive(a, depth, ks)
        row_max(a, ks, count, b, width, best, index)
        return count
    floor = highest * a.dtype.type(ratio[0])
    count = _at_least(bounds, depth, floor, ks)
    row_max(a, ks, count, b, width, best, index)
    bits = magnitude_bits(best[0])
    for n in range(width):
        here = magnitude_bits(best[n])
        bits = here if here < bits else bits
    least = of_bits(bits, best[0])
    # A little below what this row would have needed: the next one is then done in one go, as a rule.
    ratio[0] = 0.9 * least / highest
    if least >= floor and floor > 0:
        return count
    count = positive(a, depth, ks) if least == 0 else _at_least(bounds, depth, least, ks)
    row_max(a, ks, count, b, width, best, index)
    return count
