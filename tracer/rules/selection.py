"""Operators that pick scalars by value and save which: every output scalar has one operand scalar, with weight 1.

Max pooling, sort, topk, cummax and their like. They are operators, not movement, since values choose; which scalars they
chose is read from the saved indices at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradtrace.tracer.rules.base import Context, Entries, Use
from gradtrace.tracer.rules.probe import with_the_rest
from gradtrace.tracer.walk import Node

Places = Callable[[Node, torch.Tensor], torch.Tensor]
"""(node, 0..n-1 in the operand's shape) -> for every output scalar the flat place of the operand scalar it copies."""


def _pooled(node: Node, places: torch.Tensor) -> torch.Tensor:
    """Saved indices count within the plane of a channel; the last 2 or 3 dimensions are the plane."""
    indices: torch.Tensor = node.saved("result1")
    dims = 3 if "3D" in node.op else 2
    planes = places.reshape(-1, places.shape[-dims:].numel())
    return planes.gather(1, indices.detach().cpu().reshape(planes.shape[0], -1))


def _along_dim(node: Node, places: torch.Tensor) -> torch.Tensor:
    indices = node.saved("indices").detach().cpu()
    return places.gather(node.saved_int("dim"), indices) if places.dim() else places


_POOLS = ("MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D",
          "FractionalMaxPool2D", "FractionalMaxPool3D")  # fmt: skip
SELECTED: dict[str, Places] = {
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(("Sort", "Topk", "Cummax", "Cummin"), _along_dim),
}
"""How each operator saved its choice."""


def selection(context: Context) -> list[Use]:
    """The one operand's use: its edges are listed at every step."""
    ids = context.ids[0]
    assert ids is not None  # one operand
    return [Use(0, context.outputs[0], ids, listed=_edges)]


def _edges(node: Node, ids: Sequence[torch.Tensor | None]) -> Entries:
    operand = ids[0]
    assert operand is not None  # one operand
    chosen = SELECTED[node.op](node, torch.arange(operand.numel()).view(operand.shape)).reshape(-1)
    picked = operand.reshape(-1)[chosen].to(torch.int32)
    outs = torch.arange(chosen.numel(), dtype=torch.int32)
    return with_the_rest(operand, [(picked, outs, torch.ones(outs.shape))], node.dtypes[0])
