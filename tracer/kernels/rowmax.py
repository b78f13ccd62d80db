"""The inner loop of every (max, ×) product: a running maximum with its index over a list of rows."""

from __future__ import annotations

import numba as nb


@nb.njit(cache=True, nogil=True, boundscheck=False)
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
