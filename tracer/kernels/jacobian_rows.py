"""Rows of dense Jacobians in closed form: softmax, log-softmax, layer norm.

Softmax has J_ij = y_i(δ_ij − y_j), so off the diagonal the two largest |y_i·h_i| decide; of log-softmax J_ij = δ_ij − y_j,
likewise with |h_i|. Layer norm has J_ij ∝ δ_ij·d − 1 − x̂_i·x̂_j.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from gradtrace.tracer.kernels.layout import KIND, LAYER_NORM, LOG_SOFTMAX, ROW_WEIGHT, SOFTMAX


@nb.njit(cache=True, nogil=True, boundscheck=False)
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
    return w * weight[i] if r[ROW_WEIGHT] >= 0 else w


@nb.njit(cache=True, nogil=True, boundscheck=False)
def row_factors(kind, row, h, scale, weight, weighted, start, group, d, inner, constant, largest, factor):
    """Fill factor[i] with the part of |J_ij·h_i| that does not depend on j.

    Returns the positions of the two largest (-1: none) and how many were not finite (those count as 0).
    """
    bad = 0
    first = second = np.int64(-1)
    for i in range(d):
        at = start + i * inner
        x = abs(h[at] * constant)
        if kind == SOFTMAX:
            x = abs(row[at]) * x
        elif kind == LAYER_NORM:
            x = x * scale[group] / d
            if weighted:
                x = x * abs(weight[i])
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


@nb.njit(cache=True, nogil=True, boundscheck=False)
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


@nb.njit(cache=True, nogil=True, boundscheck=False)
def normalised_row(factor, row, start, inner, d, j, largest):
    """(value, i) of the best candidate of input j of a layer norm."""
    top, at = factor.dtype.type(0), np.int64(-1)
    x_j = row[start + j * inner]
    for i in range(d):
        x = -1 - row[start + i * inner] * x_j
        if i == j:
            x += d
        value = factor[i] * abs(x)
        if value > top and value <= largest:
            top = value
            at = np.int64(i)
    return top, at
