"""Batch, instance, group and weight norm. The input has one consumer a scalar where statistics are kept ones; where
they are the batch's own, every scalar of a channel (or group) reaches all outputs of it, by a Jacobian that is known in
closed form. So does every scalar of a row whose length is taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from gradtrace.tracer.kernels.layout import (
    A_S0,
    A_SK,
    A_SM,
    B_S0,
    B_SK,
    B_SN,
    MM,
    NORM,
    ROW,
    ROW_SCALE,
    ROW_WEIGHT,
    U0,
    U1,
    U2,
    UK,
    VALUES,
    WEIGHT_ROWS,
    WEIGHTS,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.rules.base import MAX_PARTIALS, Context, Source, Use
from gradtrace.tracer.rules.pairs import one_of_several
from gradtrace.tracer.walk import Node


def norm(context: Context) -> list[Use] | None:
    """Rule for `NORMALISED`; None where statistics are read that are not group norm's."""
    node = context.node
    if context.outputs != [0]:
        return _with_statistics(context) if node.op == "NativeGroupNorm" else None
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
        uses.append(_by_group(node, x_ids) if node.op == "NativeGroupNorm" else _by_channel(node, x_ids))
    channel = (1, -1, *(1 for _ in shape[2:]))
    if weight_ids is not None:
        use = Use(1, 0, weight_ids.view(channel).expand(shape), outs=context.out_index())
        use.sources[WEIGHTS] = Source("derived", 1, derive=NORMALISED[node.op])
        uses.append(use)
    if bias_ids is not None:
        uses.append(Use(2, 0, bias_ids.view(channel).expand(shape), outs=context.out_index()))
    return uses


def _with_statistics(context: Context) -> list[Use]:
    """Group norm whose means or 1/std are read too: each scalar of the input goes into those of its group."""
    normalised = 0 in context.outputs
    uses = (norm(replace(context, outputs=[0])) or []) if normalised else []
    ids = context.ids[0]
    for output in context.outputs:
        if output and ids is not None and ids.numel():
            groups = context.out_index(output).reshape(-1, 1)
            outs = groups.expand(-1, ids.numel() // groups.shape[0]).reshape(ids.shape)
            uses.append(one_of_several(ids, output, outs))
    for slot in (1, 2):  # statistics read gains and shifts without a partial
        if not normalised and context.ids[slot] is not None:
            uses += context.unused(slot, torch.empty(0))
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
    return node.op in ("NativeBatchNorm", "NativeBatchNormLegit") and not node.saved("training")


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
    "NativeBatchNormLegit": _batch_normalised,
    "BatchNormWithUpdate": _batch_normalised,
    "NativeGroupNorm": _group_normalised,
}
"""The input less its mean over its standard deviation."""


def weight_norm(context: Context) -> list[Use] | None:
    """w = g · v / ‖v‖ by row of v; partials: g / ‖v‖ · (δ_ij − v̂_i·v̂_j) for v, and v̂ for g.

    A row's partials are one matrix, of which the choice is a (max, ×) product with the gradient. None if they are too
    many.
    """
    v_ids, g_ids = context.ids
    shape = context.node.shapes[0]
    uses = []
    if v_ids is not None:
        first = context.node.saved_int("dim") == 0  # or the last dimension tells the rows
        rows = shape[0] if first else shape[-1]
        width = shape.numel() // max(rows, 1)
        if rows * width * width > MAX_PARTIALS:
            return None
        ids = v_ids.reshape(rows, width) if first else v_ids.reshape(width, rows).t()
        apart, along = (width, 1) if first else (1, rows)
        use = Use(
            0, 0, ids.unsqueeze(2), MM,
            sources={A: Source("derived", 0, derive=_weight_partials)},
            fields={
                A_S0: width * width, A_SK: width, A_SM: 1, B: -1, B_S0: apart, B_SK: along, B_SN: 0, K: width,
                U0: apart, U1: 0, U2: 0, UK: along,
            },
        )  # fmt: skip
        uses.append(use)
    if g_ids is not None:
        use = Use(1, 0, g_ids.expand(shape), outs=context.out_index())
        use.sources[WEIGHTS] = Source("derived", 1, derive=_directions)
        uses.append(use)
    return uses


def _directions(node: Node) -> torch.Tensor:
    """v̂ = v / ‖v‖."""
    v, length = node.saved("v").detach(), node.saved("result1").detach()
    return (v / length).to(v.dtype)


def _weight_partials(node: Node) -> torch.Tensor:
    """[row, i, j]: ∂w_i/∂v_j."""
    unit, scale = _directions(node), node.saved("g").detach() / node.saved("result1").detach()
    first = node.saved_int("dim") == 0
    unit = unit.reshape(unit.shape[0], -1) if first else unit.reshape(-1, unit.shape[-1]).t()
    own = torch.eye(unit.shape[1], dtype=unit.dtype, device=unit.device)
    return ((own - unit[:, :, None] * unit[:, None, :]) * scale.reshape(-1, 1, 1)).to(unit.dtype).contiguous()
