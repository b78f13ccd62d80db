"""Batch, instance and group norm. The input has one consumer a scalar where statistics are kept ones; where they are the
batch's own, every scalar of a channel (or group) reaches all outputs of it, by a Jacobian that is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradtrace.tracer.kernels.layout import (
    NORM,
    ROW,
    ROW_SCALE,
    ROW_WEIGHT,
    U0,
    U1,
    U2,
    VALUES,
    WEIGHT_ROWS,
    WEIGHTS,
    K,
)
from gradtrace.tracer.rules.base import Context, Source, Use
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
    elif x_ids is not None and x_ids.numel():
        uses.append(_by_channel(node, x_ids) if node.op == "NativeBatchNorm" else _by_group(node, x_ids))
    channel = (1, -1, *(1 for _ in shape[2:]))
    if weight_ids is not None:
        use = Use(1, 0, weight_ids.view(channel).expand(shape), outs=context.out_index())
        use.sources[WEIGHTS] = Source("derived", 1, derive=NORMALISED[node.op])
        uses.append(use)
    if bias_ids is not None:
        uses.append(Use(2, 0, bias_ids.view(channel).expand(shape), outs=context.out_index()))
    return uses


def _by_channel(node: Node, ids: torch.Tensor) -> Use:
    """One row a channel, over examples and places; the gain is the row's, so it goes with 1/std."""
    examples, channels = ids.shape[:2]
    places = ids.shape[2:].numel()

    def rows(node: Node) -> torch.Tensor:
        return _batch_normalised(node).reshape(examples, channels, places).transpose(0, 1).reshape(channels, -1)

    def scale(node: Node) -> torch.Tensor:
        spread: torch.Tensor = node.saved("result2").detach()
        weight = node.saved("weight")
        return spread if weight is None else spread * weight.detach()

    return Use(
        0, 0, ids.reshape(examples, channels, places).transpose(0, 1).reshape(channels, -1, 1), NORM,
        sources={ROW: Source("derived", 0, derive=rows), ROW_SCALE: Source("derived", 0, derive=scale)},
        fields={U0: places, K: places, U1: channels * places, U2: 1, WEIGHT_ROWS: 1},
    )  # fmt: skip


def _by_group(node: Node, ids: torch.Tensor) -> Use:
    """One row an example and group of channels, each with the gains of its channels."""
    groups = node.saved_int("group")
    width = ids[0].numel() // groups
    use = Use(
        0, 0, ids.reshape(-1, width, 1), NORM,
        sources={ROW: Source("derived", 0, derive=_group_normalised), ROW_SCALE: Source("saved", 0, "result2")},
        fields={U0: width, K: width, U2: 1, WEIGHT_ROWS: groups},
    )  # fmt: skip
    if node.saved("weight") is not None:
        places = ids.shape[2:].numel()
        use.sources[ROW_WEIGHT] = Source(
            "derived", 1, derive=lambda node: node.saved("weight").detach().view(-1, 1).expand(-1, places).contiguous()
        )
    return use


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
