"""Which rows of a (max, ×) product can win at all."""

from __future__ import annotations

from gradtrace.tracer.kernels.bits import magnitude_bits, of_bits
from gradtrace.tracer.kernels.compiled import inner
from gradtrace.tracer.kernels.tile import MOST, positive, row_max

DEEP = 128
"""Factors from which on it pays to ask which of them can win."""
KEPT = 0.6
"""Part of the factors that may win on the whole, above which asking stops paying."""


@inner
def line_tops(packed, depth, width, lanes, tops):
    """tops[k] = max over n < width of b[k, n], for non-negative finite entries, packed as `row_max` takes them."""
    most = MOST * lanes
    for start in range(0, width, most):
        step = min(most, width - start)
        for k in range(depth):
            line = packed[start * depth + k * step :]
            top = magnitude_bits(line[0]) if start == 0 else magnitude_bits(tops[k])
            for n in range(step):
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
def bounded_row_max(a, tops, depth, packed, span, width, lanes, largest, ratio, bounds, ks, best, index):
    """`row_max` over all k < depth with a[k] > 0, leaving out those that cannot win; how many it looked at in the end.

    No product of row k exceeds a[k] * tops[k], rounding included, since rounding keeps order. So after a look at the rows
    with the highest bounds, those whose bound lies below the least maximum found so far cannot attain any column's maximum.
    Rows that can are looked at in ascending order: ties go to the lowest k as ever.

    Args:
        tops: [depth], the largest entry of each row of b, see `line_tops`.
        span: columns, of `width` padded ones.
        largest: of the finite floats.
        ratio: [1], where to draw the first line, as a part of the highest bound; kept from call to call.
        bounds, ks: [>= depth], scratch; on return `ks` lists the rows that were looked at.
        a, packed, width, lanes, best, index: as for `row_max`.
    """
    highest = _bounds(a, tops, depth, bounds)
    if highest == 0 or not highest <= largest:  # where a product may overflow, every row counts
        count = positive(a, depth, ks)
        row_max(a, ks, count, packed, depth, width, lanes, best, index)
        return count
    floor = highest * a.dtype.type(ratio[0])
    count = _at_least(bounds, depth, floor, ks)
    row_max(a, ks, count, packed, depth, width, lanes, best, index)
    bits = magnitude_bits(best[0])
    for n in range(span):
        here = magnitude_bits(best[n])
        bits = here if here < bits else bits
    least = of_bits(bits, best[0])
    # A little below what this row would have needed: the next one is then done in one go, as a rule.
    ratio[0] = 0.9 * least / highest
    if least >= floor and floor > 0:
        return count
    count = positive(a, depth, ks) if least == 0 else _at_least(bounds, depth, least, ks)
    row_max(a, ks, count, packed, depth, width, lanes, best, index)
    return count
