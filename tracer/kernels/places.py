"""At which time step, and in which example, the traces of parameters begin: mass by sequence of components crossed."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import entry, inner
from gradtrace.tracer.kernels.views import bare_plan, bare_state


@entry
def places(
    plan, state, slot, mass, entries, into, time_of, inner_of, told_by, compact, time, example, by_time, by_example
):
    """Add up the masses of all leaf scalars' traces.

    Args:
        slot, mass, entries: where traces come to from leaves, see `state.LeafArrays`, and how many entries there are.
        into: int32 [slots], number of the sequence of a trace that comes to a slot.
        time_of: int32 [T], time step of each tensor's operator (-1: it does not repeat).
        inner_of: int64 [T], scalars of one example in it; told_by: int8 [T], whether it tells the example (2: where it repeats, 1:
            where nothing further on repeats, 0: never).
        compact: int32, place of each sequence's row in what is filled (sequences that no leaf's trace takes may be anything).
        time, example: int32 [slots], scratch.
        by_time, by_example: float64 [rows, .], filled: column 0 is for traces that have none, 1 + k for k.
    """
    plan, state = bare_plan(plan), bare_state(state)
    for tensor in range(plan.base.shape[0] - 1, plan.leaves - 1, -1):
        _mark(
            state.filled[tensor], state.head[tensor], plan.base[tensor], time_of[tensor], inner_of[tensor], told_by[tensor],
            state.link, state.onward, state.ident, time, example,
        )  # fmt: skip
    for e in range(entries):
        n = slot[e]
        row = compact[into[n]]
        by_time[row, time[n] + 1] += mass[e]
        by_example[row, example[n] + 1] += mass[e]


@inner
def _mark(count, s, base, when, inner, told, link, onward, ident, time, example):
    for _ in range(count):
        n = onward[s]
        if when >= 0:
            time[s] = when
            example[s] = (ident[s] - base) // inner if told == 2 else -1
        elif n >= 0 and time[n] >= 0:
            time[s] = time[n]
            example[s] = example[n]
        else:
            time[s] = -1
            example[s] = (ident[s] - base) // inner if told == 1 else (example[n] if n >= 0 else np.int32(-1))
        s = link[s]
