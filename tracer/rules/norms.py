"""Batch and group norm: gains and shifts in closed form; the input too where statistics are kept ones.

Where the statistics are the batch's own, every scalar of the input reaches all outputs of its channel (or group), and the
input is probed, within the budget.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradtrace.tracer.kernels.layout import VALUES, WEIGHTS
from gradtrace.tracer.rules.base import Context, Source, Use
from gradtrace.tracer.rules.probe import refuse_beyond_budget
from gradtrace.tracer.walk import Node


def norm(context: Context) -> list[Use] | None:
    """Rule for NativeBatchNorm and NativeGroupNorm; None where more than the normalised output is read."""
    node = context.node
    if context.outputs != [0]:
        return None
    shape = node.shapes[0]
    x_ids, weight_ids, bias_ids = (*context.ids, None, None)[:3]
    uses = []
    if x_ids is not None and _kept(node):
        use = Use(0, 0, x_ids, outs=context.out_index())
        use.sources[VALUES] = Source("gradient", 0)
        if context.weights:
            use.sources[WEIGHTS] = Source("derived", 0, derive=_slope)
        uses.append(use)
    elif x_ids is not None:
        refuse_beyond_budget(node, [0], context.budget)
        uses.append(Use(0, 0, x_ids, probed=True))
    channel = (1, -1, *(1 for _ in shape[2:]))
    if weight_ids is not None:
        use = Use(1, 0, weight_ids.view(channel).expand(shape), outs=context.out_index())
        use.sources[WEIGHTS] = Source("derived", 1, derive=NORMALISED[node.op])
        uses.append(use)
    if bias_ids is not None:
        uses.append(Use(2, 0, bias_ids.view(channel).expand(shape), outs=context.out_index()))
    return uses


def _kept(node: Node) -> bool:
    return node.op == "NativeBatchNorm" and not node.saved("training")


def _statistics(node: Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and 1/std of every channel, shaped to be broadcast."""
    if _kept(node):
        mean, spread = node.saved("running_mean"), (node.saved("running_var") + node.saved("eps")).rsqrt()
    else:
        mean, spread = node.saved("result1"), node.saved("result2")
    channel = (1, -1, *(1 for _ in node.shapes[0][2:]))
    return mean.detach().view(channel), spread.detach().view(channel)


def _batch_normalised(node: Node) -> torch.Tensor:
    mean, spread = _statistics(node)
    x: torch.Tensor = node.saved("input").detach()
    return (x - mean) * spread


def _group_normalised(node: Node) -> torch.Tensor:
    x: torch.Tensor = node.saved("input").detach()
    mean, spread = (node.saved(name).detach().reshape(-1, 1) for name in ("result1", "result2"))
    return ((x.reshape(mean.shape[0], -1) - mean) * spread).view(x.shape)


def _slope(node: Node) -> torch.Tensor:
    _, spread = _statistics(node)
    weight = node.saved("weight")
    return (spread if weight is None else spread * weight.detach().view(spread.shape)).expand(node.shapes[0])


NORMALISED: dict[str, Callable[[Node], torch.Tensor]] = {
    "NativeBatchNorm": _batch_normalised,
    "NativeGroupNorm": _group_normalised,
}
"""The input less its mean over its standard deviation."""
