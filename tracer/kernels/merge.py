"""Rows of products compete for the scalars of a tensor."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.compiled import inner


@inner
def merge(
    id0, id_step, ids, at, by_table, base, size, flat, u_step, span, best, wide, use_of, onto, ops, tops, onward, via
):  # fmt: skip
    """Let one row of products compete."""
    for n in range(span):
        value = best[n]
        id = np.int64(ids[at + n]) if by_table else id0 + n * id_step
        if value > 0 and base <= id < base + size:
            k = wide[n]
            use = use_of[k]
            u = onto[k] + flat + n * u_step
            before = tops[id]
            if value > before:
                tops[id] = value
                onward[id] = u
                via[id] = use
            elif value == before and ops[via[id]] == ops[use] and u < onward[id]:
                onward[id] = u
                via[id] = use


@inner
def take(id0, flat, u_step, span, best, index, use_of, onto, alone, k_step, tops, onward, via):
    """`merge` where nothing competes yet and the scalars id0, id0 + 1, ... are met once: a loop without branches.

    Args:
        alone: whether all rows belong to one use; `k_step` then leads from one to the next, from onto[0] on.
    """
    if alone:
        use, first = use_of[0], onto[0] + flat
        for n in range(span):
            k = np.int64(index[n])
            tops[id0 + n] = best[n]
            onward[id0 + n] = first + k * k_step + n * u_step if k >= 0 else np.int64(-1)
            via[id0 + n] = use
        return
    for n in range(span):
        k = max(np.int64(index[n]), 0)
        tops[id0 + n] = best[n]
        onward[id0 + n] = onto[k] + flat + n * u_step if index[n] >= 0 else np.int64(-1)
        via[id0 + n] = use_of[k]
