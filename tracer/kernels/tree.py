"""Whole traces, scalar by scalar: a tree towards the loss, since traces that meet stay together."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.compiled import entry, inlined
from gradtrace.tracer.kernels.detail import BEST, NEXT, SECOND, VIA, WEIGHT, detail
from gradtrace.tracer.kernels.views import bare_plan, bare_state

ID, ONWARD, USE, PARTIAL, MARGIN, LEAST_MARGIN, LOG_PRODUCT, LENGTH, AFTER, GRADIENT, INDEX = range(11)
"""Columns of a tree row: scalar id, next scalar's id (-1 at the end), use and signed weight of the edge to it, winner over
runner-up here, the least margin from here on, log |product of the weights| from here on, edges from here on (-1: the
trace breaks off before the loss), row of the next scalar (-1: none), gradient of this scalar, its flat
index in its tensor."""
WIDTH = 11


@entry(forceinline=True)
def row_of(id, keys, rows):
    """Row of a scalar in the tree, or -1. `keys`, `rows` are an open table: int64 (-1: free) and int32."""
    slots = keys.shape[0]
    at = np.int64((np.uint64(id) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) % np.uint64(slots))
    while keys[at] != -1:
        if keys[at] == id:
            return np.int64(rows[at])
        at += 1
        if at == slots:
            at = 0
    return np.int64(-1)


@inlined
def _put(id, row, keys, rows):
    slots = keys.shape[0]
    at = np.int64((np.uint64(id) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)) % np.uint64(slots))
    while keys[at] != -1:
        at += 1
        if at == slots:
            at = 0
    keys[at] = id
    rows[at] = row


@entry
def refill(count, columns, keys, rows):
    """Enter the first `count` rows of a tree into an empty table."""
    for r in range(count):
        _put(np.int64(columns[r, ID]), r, keys, rows)


@entry
def grow(starts, at, count, plan, state, gradients, keys, rows, like, columns):
    """Add the traces of the scalars in `starts`, from number `at` on; every scalar on the way is looked at in full, once.

    Args:
        starts: int64 ids.
        at, count: where to go on: starts done so far, rows in use.
        gradients: int64 [T], addresses of the tensors' gradients.
        keys, rows: tell which scalars the rows are.
        columns: float64 [., WIDTH].

    Returns (number of rows, how many of `starts` are done); stops early where a trace might not fit: then make room and call
    again.
    """
    plan, state = bare_plan(plan), bare_state(state)
    found = np.zeros(5)
    while at < starts.shape[0]:
        first = count
        v = np.int64(starts[at])
        after = np.int64(-1)
        while v >= 0:
            after = row_of(v, keys, rows)
            if after >= 0:
                break
            if count >= columns.shape[0] or 2 * count >= keys.shape[0]:
                # Half a trace is of no use: its rows are taken out again, by entering the whole ones anew.
                keys[:] = -1
                refill(first, columns, keys, rows)
                return first, at
            _put(v, count, keys, rows)
            _look(v, count, plan, state, gradients, like, found, columns)
            v = np.int64(columns[count, ONWARD])
            count += 1
        for r in range(count - 1, first - 1, -1):
            onward = np.int64(columns[r, ONWARD])
            if onward < 0:
                columns[r, LEAST_MARGIN] = np.inf
                columns[r, LOG_PRODUCT] = 0
                columns[r, LENGTH] = 0 if columns[r, ID] == plan.loss else -1
                columns[r, AFTER] = -1
                after = np.int64(r)
                continue
            columns[r, AFTER] = after
            columns[r, LEAST_MARGIN] = min(columns[r, MARGIN], columns[after, LEAST_MARGIN])
            columns[r, LOG_PRODUCT] = columns[after, LOG_PRODUCT] + np.log(abs(columns[r, PARTIAL]))
            columns[r, LENGTH] = columns[after, LENGTH] + 1 if columns[after, LENGTH] >= 0 else -1
            after = np.int64(r)
        at += 1
    return count, at


@inlined
def _look(v, row, plan, state, gradients, like, found, columns):
    columns[row, ID] = v
    columns[row, ONWARD] = -1
    columns[row, USE] = -1
    columns[row, PARTIAL] = 0
    columns[row, MARGIN] = np.inf
    tensor = np.searchsorted(plan.base, v, side="right") - 1
    at = v - plan.base[tensor]
    columns[row, INDEX] = at
    columns[row, GRADIENT] = array_at(gradients[tensor], at + 1, like)[at] if gradients[tensor] != 0 else 0
    if v != plan.loss:
        detail(tensor, at, plan, state, like, found)
        columns[row, ONWARD] = found[NEXT]
        columns[row, USE] = found[VIA]
        columns[row, PARTIAL] = found[WEIGHT]
        if found[SECOND] > 0:
            columns[row, MARGIN] = found[BEST] / found[SECOND]


@entry
def rows_from(row, columns):
    """Rows of the trace that starts at `row`, in order, its start included."""
    count = 0
    r = row
    while r >= 0:
        count += 1
        r = np.int64(columns[r, AFTER])
    out = np.empty(count, np.int64)
    r = row
    for at in range(count):
        out[at] = r
        r = np.int64(columns[r, AFTER])
    return out


@entry
def hops_from(row, columns, factor):
    """Of the trace that starts at `row`: flat indices (int64), weights of the edges to them, and gradients times `factor`."""
    count = 0
    r = np.int64(columns[row, AFTER])
    while r >= 0:
        count += 1
        r = np.int64(columns[r, AFTER])
    index, weight, gradient = np.empty(count, np.int64), np.empty(count), np.empty(count)
    r = row
    for at in range(count):
        weight[at] = columns[r, PARTIAL]
        r = np.int64(columns[r, AFTER])
        index[at] = np.int64(columns[r, INDEX])
        gradient[at] = columns[r, GRADIENT] * factor
    return index, weight, gradient
