"""Rows of dense Jacobians in closed form: softmax, log-softmax, normalisations.

Softmax has J_ij = y_i(δ_ij − y_j), so off the diagonal the two largest |y_i·h_i| decide; of log-softmax J_ij = δ_ij − y_j,
likewise with |h_i|. Layer, group and batch norm have J_ij ∝ δ_ij·d − 1 − x̂_i·x̂_j: off the diagonal an envelope of lines.
"""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import inlined, inner, sums
from gradtrace.tracer.kernels.envelope import FROM, envelope, highest
from gradtrace.tracer.kernels.layout import (
    D1,
    D2,
    KIND,
    LOG_SOFTMAX,
    NORM,
    ROW_WEIGHT,
    SOFTMAX,
    U0,
    U1,
    U2,
    WEIGHT_ROWS,
    K,
)

ROUNDING = 1.001
"""A bound this much larger still holds for values as computed."""


@inlined
def row_output(r, group, i, i2):
    """Flat index of output i of a row."""
    if r[KIND] == NORM:
        return group * r[U0] + (i // r[K]) * r[U1] + (i % r[K]) * r[U2]
    return (group * r[D1] + i) * r[D2] + i2


@inlined
def gain_at(r, group, i):
    """Place of the gain of output i of a row."""
    return (group % r[WEIGHT_ROWS]) * r[D1] + i


@inner
def row_weight(r, group, i, j, d, inner, i2, row, scale, weight):
    """Partial of output i with respect to input j in one row."""
    kind = r[KIND]
    at_i, at_j = (group * d + i) * inner + i2, (group * d + j) * inner + i2
    if kind == SOFTMAX:
        return row[at_i] * (1 - row[at_j]) if i == j else -row[at_i] * row[at_j]
    if kind == LOG_SOFTMAX:
        return 1 - np.exp(row[at_j]) if i == j else -np.exp(row[at_j])
    x = d - 1 - row[at_i] * row[at_j] if i == j else -1 - row[at_i] * row[at_j]
    w = x * scale[group] / d
    return w * weight[gain_at(r, group, i)] if r[ROW_WEIGHT] >= 0 else w


@inner
def row_factors(r, row, h, scale, weight, group, i2, constant, largest, factor):
    """Fill factor[i] with the part of |J_ij·h_i| that does not depend on j.

    Returns the positions of the two largest (-1: none) and how many were not finite (those count as 0).
    """
    bad = 0
    first = second = np.int64(-1)
    kind, d, inner, weighted = r[KIND], r[D1], r[D2], r[ROW_WEIGHT] >= 0
    for i in range(d):
        x = abs(h[row_output(r, group, i, i2)] * constant)
        if kind == SOFTMAX:
            x = abs(row[(group * d + i) * inner + i2]) * x
        elif kind == NORM:
            x = x * abs(scale[group]) / d
            if weighted:
                x = x * abs(weight[gain_at(r, group, i)])
        if not x <= largest:
            bad += 1
            x = factor.dtype.type(0)
        factor[i] = x
        if first < 0 or x > factor[first]:
            second = first
            first = np.int64(i)
        elif second < 0 or x > factor[second]:
            second = np.int64(i)
    return first, second, bad


@inner
def softmax_row(factor, y, plain, j, first, second):
    """(value, i) of the best candidate of input j; `y` is the result at j, `plain` tells softmax from log-softmax."""
    shared = abs(y) if plain else np.exp(y)
    other = second if first == j else first
    top, at = factor.dtype.type(0), np.int64(-1)
    if other >= 0:
        top = factor[other] * shared
        at = other
    value = factor[j] * abs(1 - shared)
    if value > top or (value == top and j < at):
        top = value
        at = np.int64(j)
    return top, at


@sums
def off_diagonal(factor, row, start, d):
    """(largest factor, largest factor·|x̂|) of a row: no candidate off the diagonal exceeds the one + |x̂_j| times the other."""
    height = slope = 0.0
    for i in range(d):
        f = np.float64(factor[i])
        sloping = f * abs(np.float64(row[start + i]))
        height = f if f > height else height
        slope = sloping if sloping > slope else slope
    return height, slope


@inner
def on_diagonal(factor, row, start, d, j, largest, height, slope):
    """Value of input j's candidate on the diagonal where it wins for sure, else -1: in long rows nearly always."""
    x = np.float64(row[start + j])
    own = factor[j] * abs(d - 1 - row[start + j] * row[start + j])
    wins = own <= largest and own > ROUNDING * (height + slope * abs(x))
    return own if wins else factor.dtype.type(-1)


@inner
def lines_of(factor, row, start, d, asked, hull, cuts):
    """Lines on the envelope of a row (see `envelope`), or -1 where looking at all outputs is as good: few inputs ask."""
    return envelope(factor, row, start, d, hull, cuts) if d >= FROM and asked * 8 >= FROM else np.int64(-1)


@inner
def normalised_row(factor, row, start, d, j, largest, hull, cuts, lines):
    """(value, i) of the best candidate of input j of a normalisation; `lines` are on the envelope (-1: there is none)."""
    x_j = row[start + j]
    if lines >= 0:
        value, i = highest(factor, row, start, hull, cuts, lines, x_j)
        own = factor[j] * abs(d - 1 - x_j * x_j)
        if own <= largest and value <= largest:
            if own > value or (own == value and (j < i or i == j)):
                return (own, np.int64(j)) if own > 0 else (own, np.int64(-1))
            if i != j:
                return value, i
    top, at = factor.dtype.type(0), np.int64(-1)
    for i in range(d):
        x = -1 - row[start + i] * x_j
        if i == j:
            x += d
        value = factor[i] * abs(x)
        if value > top and value <= largest:
            top = value
            at = np.int64(i)
    return top, at
