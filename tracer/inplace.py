"""In-place writes into a part of a tensor (autograd's CopySlices): which output scalars are copies.

Scalars outside the written part, and written ones that copy a value as it is, are aliases; the others (added to, scaled)
are scalars of an operator of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradtrace.tracer.rules.probe import jacobian_of, refuse_beyond_budget
from gradtrace.tracer.walk import Node


def copy_slices(node: Node, operands: Sequence[torch.Tensor | None], own: torch.Tensor, budget: int) -> torch.Tensor:
    """Ids of the output of a CopySlices node: an operand's id where it copies, else its own (`own`, output's shape).

    Told by the node's own Jacobian: an output scalar with a single partial, equal to 1, is a copy if it stands at its
    own place of the base (operand 0) or anywhere in a written value; one with no partial at all is a constant.
    """
    refuse_beyond_budget(node, [0], budget)
    jacobian = jacobian_of(node, operands, 0)
    count = own.numel()
    ids = own.reshape(-1).clone()
    reads = torch.zeros(count, dtype=torch.int64)
    for part in jacobian.values():
        reads += (part != 0).sum(1)
    for slot, part in jacobian.items():
        operand = operands[slot]
        if operand is None:
            continue
        single = (reads == 1) & ((part == 1).sum(1) == 1)
        place = (part == 1).to(torch.int8).argmax(1)
        if slot == 0:
            single &= place == torch.arange(count)
        ids[single] = operand.reshape(-1)[place[single]].to(ids.dtype)
    ids[reads == 0] = -1
    return ids.view(own.shape)
