"""Whole traces, scalar by scalar: a tree towards the loss, since traces that meet stay together."""

from __future__ import annotations

import numba as nb
import numpy as np

from gradtrace.tracer.kernels.detail import BEST, NEXT, SECOND, VIA, WEIGHT, detail

ID, ONWARD, USE, PARTIAL, MARGIN, LEAST_MARGIN, LOG_PRODUCT, LENGTH = 0, 1, 2, 3, 4, 5, 6, 7
"""Columns of a tree row: scalar id, next scalar's id (-1 at the end), use and signed weight of the edge to it, winner over
runner-up here, the least margin from here on, log |product of the weights| from here on, edges from here on (-1: the
trace breaks off before the loss)."""
WIDTH = 8


@nb.njit(cache=True, nogil=True, boundscheck=False)
def grow(starts, rows, plan, state, place, like, columns):
    """Add the traces of the scalars in `starts` to the tree; every scalar on the way is looked at in full, once.

    `place` (int32 [ids], -1 where new) becomes the row of each scalar met; `columns` (float64 [., WIDTH]) holds `rows` rows
    already. Returns the number of rows, or -1 - (rows so far) if `columns` is too short.
    """
    found = np.zeros(5)
    for at in range(starts.shape[0]):
        first = rows
        v = np.int64(starts[at])
        while v >= 0 and place[v] < 0:
            if rows >= columns.shape[0]:
                for r in range(first, rows):
                    place[np.int64(columns[r, ID])] = -1
                return -1 - first
            place[v] = rows
            columns[rows, ID] = v
            columns[rows, ONWARD] = -1
            columns[rows, USE] = -1
            columns[rows, PARTIAL] = 0
            columns[rows, MARGIN] = np.inf
            if v != plan.loss:
                tensor = np.searchsorted(plan.base, v, side="right") - 1
                detail(tensor, v - plan.base[tensor], plan, state, like, found)
                columns[rows, ONWARD] = found[NEXT]
                columns[rows, USE] = found[VIA]
                columns[rows, PARTIAL] = found[WEIGHT]
                if found[SECOND] > 0:
                    columns[rows, MARGIN] = found[BEST] / found[SECOND]
            v = np.int64(columns[rows, ONWARD])
            rows += 1
        for r in range(rows - 1, first - 1, -1):
            onward = np.int64(columns[r, ONWARD])
            if onward < 0:
                columns[r, LEAST_MARGIN] = np.inf
                columns[r, LOG_PRODUCT] = 0
                columns[r, LENGTH] = 0 if columns[r, ID] == plan.loss else -1
                continue
            after = place[onward]
            columns[r, LEAST_MARGIN] = min(columns[r, MARGIN], columns[after, LEAST_MARGIN])
            columns[r, LOG_PRODUCT] = columns[after, LOG_PRODUCT] + np.log(abs(columns[r, PARTIAL]))
            columns[r, LENGTH] = columns[after, LENGTH] + 1 if columns[after, LENGTH] >= 0 else -1
    return rows


@nb.njit(cache=True, nogil=True, boundscheck=False)
def rows_from(row, place, columns):
    """Rows of the trace that starts at `row`, in order, its start included."""
    count = 0
    r = row
    while True:
        count += 1
        onward = np.int64(columns[r, ONWARD])
        if onward < 0:
            break
        r = place[onward]
    out = np.empty(count, np.int64)
    r = row
    for at in range(count):
        out[at] = r
        onward = np.int64(columns[r, ONWARD])
        if onward >= 0:
            r = place[onward]
    return out
