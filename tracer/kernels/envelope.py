"""The largest f_i·|1 + x_i·x| over i for many x: an upper envelope of lines, since each |line| is the larger of two lines.

Building it costs a sort of the lines; after that every x is a binary search. A row of a normalisation asks at its own x_j.
"""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import inner

FROM = 64
"""Length of a row from which on an envelope is worth building."""


@inner
def envelope(factor, row, start, d, hull, cuts):
    """Fill `hull` (int64 [2d]) with the lines on the envelope by ascending slope, and `cuts` (float64 [2d]) with where each begins.

    Line 2i is f_i + f_i·x_i·x, line 2i + 1 the same negated. Returns how many there are, or -1 where an x_i is not finite.
    """
    slopes = np.empty(2 * d)
    for i in range(d):
        slope = np.float64(factor[i]) * np.float64(row[start + i])
        if not abs(slope) < np.inf:
            return -1
        slopes[2 * i] = slope
        slopes[2 * i + 1] = -slope
    count = 0
    for line in np.argsort(slopes):
        height = np.float64(factor[line >> 1])
        if height == 0:
            continue
        height = -height if line & 1 else height
        slope = slopes[line]
        while count > 0:
            top = hull[count - 1]
            top_height = np.float64(factor[top >> 1])
            top_height = -top_height if top & 1 else top_height
            if slope == slopes[top]:
                if height <= top_height:
                    break
                count -= 1
                continue
            cut = (top_height - height) / (slope - slopes[top])
            if count > 1 and cut <= cuts[count - 1]:
                count -= 1
                continue
            hull[count] = line
            cuts[count] = cut
            count += 1
            break
        if count == 0:
            hull[0] = line
            cuts[0] = -np.inf
            count = 1
    return count


@inner
def highest(factor, row, start, hull, cuts, count, x):
    """(value, i) of the largest f_i·|1 + x_i·x|; the two neighbours are looked at too, since cuts are rounded."""
    low, high = np.int64(0), np.int64(count - 1)
    while low < high:
        middle = (low + high + 1) >> 1
        if cuts[middle] <= x:
            low = middle
        else:
            high = middle - 1
    top, at = factor[0] * 0, np.int64(-1)
    for k in range(max(low - 1, 0), min(low + 2, count)):
        i = hull[k] >> 1
        value = factor[i] * abs(-1 - row[start + i] * x)
        if value > top or (value == top and i < at):
            top = value
            at = np.int64(i)
    return top, at
