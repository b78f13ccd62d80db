"""How a candidate competes for a scalar, and which components have candidates for it."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import inlined, inner
from gradtrace.tracer.kernels.component_sets import with_element
from gradtrace.tracer.kernels.layout import (
    ID_S0,
    ID_S1,
    ID_S2,
    ID_START,
    ID_TABLE,
)  # fmt: skip

TABLE = np.empty(0, np.int32)
"""Has the dtype of index tables."""


@inlined
def component_of(tensor, flat, plan):
    """Component number of one scalar of a tensor (-1: none); blocks of a tensor may belong to different components."""
    inner, count, table = plan.comp_inner[tensor], plan.comp_count[tensor], plan.comp_table
    if count == 1:
        return table[tensor, 0]
    return table[tensor, (flat // inner) % count]


@inlined
def offer(id, value, u, use, ops, best, onward, via):
    """Let (use, u) with `value` > 0 compete for an entry: ties go to the use recorded first, in one operator to the lowest u."""
    held = best[id]
    if value > held:
        best[id] = value
        onward[id] = u
        via[id] = use
    elif value == held and ops[via[id]] == ops[use] and u < onward[id]:
        onward[id] = u
        via[id] = use


@inlined
def note(v, flat, target, plan, state):
    state.sets[v] = with_element(state.sets[v], component_of(target, flat, plan) + 1, state.set_table)


@inner
def id_at(r, ids, at, i0, i1, i2):
    if r[ID_TABLE] == 0:
        return r[ID_START] + i0 * r[ID_S0] + i1 * r[ID_S1] + i2 * r[ID_S2]
    return np.int64(ids[at])
