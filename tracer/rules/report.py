"""How the operators of a plan are traced, in words: for the table of operators and for whoever wonders about a cost."""

from __future__ import annotations

from dataclasses import dataclass

from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.plan import Plan

ONE = "every scalar edge once"
LISTED = "every scalar edge once, choices read at every step"
COPIES = "each copy of a broadcast operand once"
PRODUCT = "a (max,×) product"
ROW = "each row of the Jacobian in closed form"
PROBED = "one backward call for each output scalar"
COSTS = (ONE, LISTED, COPIES, ROW, PRODUCT, PROBED)
"""From cheap to dear."""


@dataclass(frozen=True)
class Treatment:
    """One operator of a plan.

    Attributes:
        op: autograd's name of it.
        probed: whether it has no closed rule.
        cost: what is looked at, one of `COSTS`.
    """

    op: str
    probed: bool
    cost: str


def treatments(plan: Plan) -> list[Treatment]:
    """Every operator in forward order; movement is none."""
    costs: dict[int, set[str]] = {index: {ONE} for index in plan.operators}
    for record in plan.records:
        use = record.use
        if use.probed:
            cost = PROBED
        elif use.listed is not None:
            cost = LISTED
        elif use.kind == L.MM:
            cost = PRODUCT
        elif use.kind != L.PAIRS:
            cost = ROW
        else:
            cost = (
                COPIES if any(s == 0 and n > 1 for s, n in zip(use.ids.stride(), use.ids.shape, strict=True)) else ONE
            )
        costs[record.node].add(cost)
    at = {vertex: index for index, vertex in enumerate(plan.operators)}
    names = [v.op for v in plan.graph.vertices if v.kind in ("operator", "loss")]
    return [
        Treatment(names[at[index]], index in plan.probed, max(costs[index], key=COSTS.index))
        for index in plan.operators
    ]
