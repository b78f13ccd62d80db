"""Which components, and which operators, the trace of every visited scalar crosses from there on, from the loss down."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import entry, inner
from gradtrace.tracer.kernels.component_sets import intern
from gradtrace.tracer.kernels.views import bare_plan, bare_state


@entry
def sequences(plan, state, vertex_of, into, path, table, paths):
    """Number the component sequence and the operator path from every visited operator scalar on, that scalar included.

    Element e > 0 of a sequence (as of the sets of candidate components) is component e - 1, and 0 stands for "no component";
    element e of a path is vertex e. Repeats in a row are one element of a sequence.

    Args:
        vertex_of: int32 [T], the vertex of each tensor.
        into, path: int32 [slots], filled in: the numbers for a trace that comes to this scalar.
        table, paths: tables of `component_sets`.
    """
    plan, state = bare_plan(plan), bare_state(state)
    for tensor in range(plan.base.shape[0] - 1, plan.leaves - 1, -1):
        if state.filled[tensor] > 0:
            _numbers(
                state.filled[tensor], state.head[tensor], plan.base[tensor], plan.comp_inner[tensor], plan.comp_count[tensor],
                plan.comp_table[tensor], vertex_of[tensor], state.link, state.onward, state.ident, into, path, table, paths,
            )  # fmt: skip


@inner
def _numbers(count, s, base, inner, blocks, components, vertex, link, onward, ident, into, path, table, paths):
    element = table[3]
    last_key, last = np.int64(-1), np.int64(0)
    path_key, path_last = np.int64(-1), np.int64(0)
    component = np.int64(components[0] + 1)
    for _ in range(count):
        n = onward[s]
        after = np.int64(into[n]) if n >= 0 else np.int64(0)
        beyond = np.int64(path[n]) if n >= 0 else np.int64(0)
        if blocks > 1:
            component = np.int64(components[((ident[s] - base) // inner) % blocks] + 1)
        key = (after << 32) | component
        if key != last_key:
            last_key = key
            last = after if element[after] == component else intern(after, component, table)
        into[s] = last
        if beyond != path_key:
            path_key = beyond
            path_last = intern(beyond, vertex, paths)
        path[s] = path_last
        s = link[s]


@entry
def leaf_rows(bounds, slot, traffic, mass, into, traffic_of, mass_of, out):
    """Traces by (group, sequence): rows of `out` (float64 [., 4]) become (group, sequence, traffic, mass).

    Returns how many rows there are, or -1 if `out` is too short. `traffic_of`, `mass_of` are scratch, as long as the table of
    sequences, all zero; the other arguments are those of `state.LeafArrays` and `sequences`.
    """
    rows = 0
    for group in range(bounds.shape[0]):
        low, high = np.int64(2**31), np.int64(-1)
        for e in range(bounds[group, 0], bounds[group, 1]):
            s = np.int64(into[slot[e]])
            traffic_of[s] += traffic[e]
            mass_of[s] += mass[e]
            low = min(low, s)
            high = max(high, s)
        for s in range(low, high + 1):
            if traffic_of[s] > 0:
                if rows >= out.shape[0]:
                    return -1
                out[rows, 0], out[rows, 1], out[rows, 2], out[rows, 3] = group, s, traffic_of[s], mass_of[s]
                traffic_of[s], mass_of[s] = 0, 0
                rows += 1
    return rows
