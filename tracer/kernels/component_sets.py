"""Interned sets and sequences of components, grown inside compiled code.

A set (or sequence) is a number; number s > 0 is `parent[s]` with `element[s]` added, and 0 is the empty one. Two open-
addressing tables find the number of (parent, element). Capacity is fixed for a call: when it runs out the caller's
`FULL` meter is raised and the step is computed again with more room.
"""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import inlined

COUNT, FULL = 0, 1
"""Indices into a table's meters: numbers handed out so far (0 included), and whether the table overflowed."""


def new_table(capacity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(keys, numbers, parent, element, meters) of an empty table for up to `capacity` entries."""
    slots = 2 * capacity
    return (
        np.full(slots, -1, np.int64),
        np.zeros(slots, np.int32),
        np.zeros(capacity, np.int32),
        np.full(capacity, -1, np.int32),
        np.array([1, 0], np.int64),
    )


@inlined
def intern(parent_number, added, table):
    """The number of (parent_number, added), handing out a new one where it is new."""
    keys, numbers, parent, element, meters = table
    key = (np.int64(parent_number) << 32) | np.int64(added)
    slots = keys.shape[0]
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64((mixed >> np.uint64(20)) % np.uint64(slots))
    while keys[at] != -1:
        if keys[at] == key:
            return np.int64(numbers[at])
        at += 1
        if at == slots:
            at = 0
    number = meters[COUNT]
    if number >= parent.shape[0]:
        meters[FULL] = 1
        return np.int64(0)
    meters[COUNT] = number + 1
    keys[at] = key
    numbers[at] = number
    parent[number] = parent_number
    element[number] = added
    return np.int64(number)


@inlined
def with_element(number, added, table):
    """The set `number` with `added` in it (the same number where it is in already)."""
    parent, element = table[2], table[3]
    s = number
    while s != 0:
        if element[s] == added:
            return np.int64(number)
        s = parent[s]
    return intern(number, added, table)
