"""Component totals from traces by sequence."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import entry


@entry
def component_totals(
    rows, order, parent, element, count, start, listed, owner_start, owners, mass, traffic, entries, own
):
    """Add up, per component: mass and traffic of the traces that cross it, entries, and mass from its own parameters.

    Sequences share their ends, so they are a tree; one walk over it, with a count of how often each component is on the way
    from the loss, tells where a trace meets a component first. Cost: the tree, times the depth of component names.

    Args:
        rows: float64 [., 4] of (group, sequence, traces, mass); order: their positions by sequence.
        parent, element, count: the table of sequences.
        start, listed: element e stands for a component and its ancestors listed[start[e] : start[e + 1]].
        owner_start, owners: likewise for groups.
        mass, own: float64 [components]; traffic, entries: int64 [components].
    """
    below_mass, below_traffic = np.zeros(count), np.zeros(count)
    for at in range(rows.shape[0]):
        s = np.int64(rows[at, 1])
        below_mass[s] += rows[at, 3]
        below_traffic[s] += rows[at, 2]
    child, sibling = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    for s in range(count - 1, 0, -1):
        if below_traffic[s] > 0:
            p = parent[s]
            below_mass[p] += below_mass[s]
            below_traffic[p] += below_traffic[s]
            sibling[s] = child[p]
            child[p] = s
    first = np.full(count + 1, rows.shape[0], np.int64)
    for at in range(rows.shape[0] - 1, -1, -1):
        first[np.int64(rows[order[at], 1])] = at
    on_way = np.zeros(mass.shape[0], np.int32)
    s = np.int64(0)
    while True:
        if s > 0:
            e, before = element[s], element[parent[s]]
            for i in range(start[e], start[e + 1]):
                c = listed[i]
                if on_way[c] == 0:
                    mass[c] += below_mass[s]
                    traffic[c] += np.int64(below_traffic[s])
                on_way[c] += 1
                inside = False
                if parent[s] > 0:
                    for k in range(start[before], start[before + 1]):
                        inside = inside or listed[k] == c
                if not inside:
                    entries[c] += np.int64(below_traffic[s])
            at = first[s]
            while at < rows.shape[0] and np.int64(rows[order[at], 1]) == s:
                group = np.int64(rows[order[at], 0])
                for i in range(owner_start[group], owner_start[group + 1]):
                    if on_way[owners[i]] > 0:
                        own[owners[i]] += rows[order[at], 3]
                at += 1
        if child[s] >= 0:
            s = np.int64(child[s])
            continue
        while s > 0:
            e = element[s]
            for i in range(start[e], start[e + 1]):
                on_way[listed[i]] -= 1
            if sibling[s] >= 0:
                s = np.int64(sibling[s])
                break
            s = np.int64(parent[s])
        if s == 0:
            break


@entry
def contest_totals(number, winner, count, parent, element, start, listed, contested, won):
    """Add up departures from vertices with candidates inside and outside each component, and those that went inside.

    number, winner, count: of each kind of contest, the set of candidate components, the winner's element, departures.
    """
    seen = np.zeros(contested.shape[0], np.int32)
    for at in range(number.shape[0]):
        members = 0
        s = number[at]
        while s > 0:
            for i in range(start[element[s]], start[element[s] + 1]):
                seen[listed[i]] += 1
            members += 1
            s = parent[s]
        for i in range(start[winner[at]], start[winner[at] + 1]):
            c = listed[i]
            if 0 < seen[c] < members:
                won[c] += count[at]
        s = number[at]
        while s > 0:
            for i in range(start[element[s]], start[element[s] + 1]):
                c = listed[i]
                if 0 < seen[c] < members:
                    contested[c] += count[at]
                seen[c] = 0
            s = parent[s]


@entry
def leave(slot, ident, used):
    """Take the marks of visited scalars off again, so that the next step finds the workspace clean."""
    for s in range(used):
        slot[ident[s]] = -1
