"""The best candidate of every scalar of one tensor: one function for each kind of fan-out (see `layout`).

`evaluate` looks at all uses of a tensor and leaves, for each scalar, the consumer scalar with the largest |w·h|, where h
is the gradient (greedy) or the best product down to the loss (maxprod) of the consumer. Ties go to the use recorded
first, within one operator to the lowest output index. Zero, NaN and ±inf never win.
"""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.addressing import array_at
from gradtrace.tracer.kernels.compiled import inlined, inner
from gradtrace.tracer.kernels.contraction import contraction, run_end
from gradtrace.tracer.kernels.dense_rows import dense_rows
from gradtrace.tracer.kernels.layout import (
    HI,
    KIND,
    LO,
    MM,
    PAIRS,
)  # fmt: skip
from gradtrace.tracer.kernels.pairs import copied, copies, pairs


@inner
def evaluate(tensor, track, plan, state, like):
    """Best candidates of all scalars of one tensor, in `best`, `onward_id`, `via_use` (and `sets`) of the state.

    Returns the binary exponent that the values share.
    """
    base, size = plan.base[tensor], plan.size[tensor]
    state.best[base : base + size] = 0
    state.onward_id[base : base + size] = -1
    if track:
        state.sets[:size] = 0
    reference = top_exponent(tensor, plan, state)
    end = plan.use_start[tensor + 1]
    onwards = plan.use_start[tensor]
    fresh = True
    while onwards < end:
        at = onwards
        onwards += 1
        use = plan.use_list[at]
        target = plan.targets[use]
        if state.h_address[target] == 0 or plan.uses[use, HI] <= plan.uses[use, LO]:
            continue
        shift = state.exponent[target] - reference
        constant = (
            like.dtype.type(plan.constants[use]) if shift == 0 else like.dtype.type(plan.constants[use] * 2.0**shift)
        )
        h = array_at(state.h_address[target], plan.size[target], like)
        kind = plan.uses[use, KIND]
        if kind == PAIRS:
            if not track and copied(plan.uses[use]):
                copies(use, base, size, constant, plan, state, like)
            else:
                pairs(use, base, size, track, constant, h, plan, state, like)
        elif kind == MM:
            onwards = run_end(at, end, track, plan, state)
            contraction(at, onwards, base, size, track, constant, fresh, plan, state, like)
        else:
            dense_rows(use, base, size, track, constant, h, plan, state, like)
        fresh = False
    return reference


@inlined
def top_exponent(tensor, plan, state):
    """The largest binary exponent among the tensors that read this one (0 for greedy throughout)."""
    reference = np.int64(-(2**62))
    for at in range(plan.use_start[tensor], plan.use_start[tensor + 1]):
        reference = max(reference, state.exponent[plan.targets[plan.use_list[at]]])
    return reference if reference > -(2**61) else np.int64(0)
