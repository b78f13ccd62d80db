"""Plans and states whose arrays compiled code may pass around freely.

Compiled code counts a reference for each array of a tuple at each call that takes the tuple: two atomic operations an array,
which came to more than the work of small operators. Views made here have no owner, so there is nothing to count. The caller of
a pass keeps the real arrays alive.
"""

from __future__ import annotations

import numba as nb

from gradtrace.tracer.kernels.addressing import as_pointer
from gradtrace.tracer.kernels.compiled import inner
from gradtrace.tracer.kernels.state import PlanArrays, StepArrays


@inner(inline="always")
def bare(array):
    """The same array without an owner."""
    return nb.carray(as_pointer(array.ctypes.data), array.shape, array.dtype)


@inner
def _bare_table(table):
    return bare(table[0]), bare(table[1]), bare(table[2]), bare(table[3]), bare(table[4])


@inner
def bare_plan(plan):
    """The plan with bare arrays."""
    return PlanArrays(
        bare(plan.base), bare(plan.size), bare(plan.use_start), bare(plan.use_list), bare(plan.uses), bare(plan.ops),
        bare(plan.targets), bare(plan.owners), bare(plan.constants), bare(plan.comp_inner), bare(plan.comp_count),
        bare(plan.comp_table), bare(plan.track), plan.leaves, plan.loss, plan.loss_tensor,
    )  # fmt: skip


@inner
def bare_state(state):
    """The state with bare arrays."""
    return StepArrays(
        bare(state.pointers), bare(state.h_address), bare(state.exponent), bare(state.best), bare(state.onward_id),
        bare(state.via_use), bare(state.slot), bare(state.ident), bare(state.onward), bare(state.traffic),
        bare(state.link), bare(state.mass), bare(state.head), bare(state.filled), bare(state.counts), bare(state.sets),
        bare(state.wide), bare(state.meters), _bare_table(state.set_table), _bare_table(state.contest_table),
        bare(state.contest_count), state.largest,
    )  # fmt: skip
