"""Component totals from traces by sequence."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True, boundscheck=False)
def visits_of(parent, element, count, within):
    """Entries into each component along every sequence: int32 [count, components].

    `within` (bool [components + 1, components]) says what contains what; its row 0 is "no component".
    """
    components = within.shape[1]
    visits = np.zeros((count, components), np.int32)
    for s in range(1, count):
        before = parent[s]
        here = element[s]
        for c in range(components):
            visits[s, c] = visits[before, c]
            if within[here, c] and (before == 0 or not within[element[before], c]):
                visits[s, c] += 1
    return visits


@nb.njit(cache=True, nogil=True, boundscheck=False)
def component_totals(rows, visits, owned, mass, traffic, entries, own):
    """Add up, per component: mass and traffic of the traces that cross it, entries, and mass from its own parameters.

    rows: float64 [., 4] of (group, sequence, traces, mass); owned: bool [groups, components].
    """
    for at in range(rows.shape[0]):
        group, sequence = np.int64(rows[at, 0]), np.int64(rows[at, 1])
        for c in range(visits.shape[1]):
            times = visits[sequence, c]
            if times > 0:
                mass[c] += rows[at, 3]
                traffic[c] += np.int64(rows[at, 2])
                entries[c] += times * np.int64(rows[at, 2])
                if owned[group, c]:
                    own[c] += rows[at, 3]
