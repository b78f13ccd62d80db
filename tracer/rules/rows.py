"""Operators with a dense Jacobian inside each row, known in closed form: softmax, log-softmax and layer norm."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from gradtrace.tracer.kernels.layout import (
    LOG_SOFTMAX,
    NORM,
    ROW,
    ROW_SCALE,
    ROW_WEIGHT,
    SOFTMAX,
    U0,
    U2,
    WEIGHT_ROWS,
    WEIGHTS,
    K,
)
from gradtrace.tracer.rules.base import Context, Source, Use
from gradtrace.tracer.walk import Node


def _softmax_kind(kind: int) -> Callable[[Context], list[Use]]:
    def rule(context: Context) -> list[Use]:
        ids = context.ids[0]
        assert ids is not None  # one operand
        shape = list(ids.shape) or [1]
        dim = context.node.saved_int("dim") % len(shape)
        outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1 :])
        return [Use(0, 0, ids.reshape(outer, shape[dim], inner), kind, sources={ROW: Source("saved", 0, "result")})]

    return rule


def _layer_norm(context: Context) -> list[Use]:
    """Partials: γ_i · rstd / n · (n·δ_ij − 1 − x̂_i·x̂_j) for the input, x̂ for the weight, 1 for the bias."""
    node = context.node
    shape = node.shapes[0]
    width = math.prod(node.saved("normalized_shape"))
    rows = shape.numel() // max(width, 1)
    x_ids, weight_ids, bias_ids = (*context.ids, None, None)[:3]
    uses = []
    if x_ids is not None:
        sources = {ROW: Source("derived", 0, derive=normalised), ROW_SCALE: Source("saved", 0, "result2")}
        if node.saved("weight") is not None:
            sources[ROW_WEIGHT] = Source("saved", 1, "weight")
        fields = {U0: width, K: width, U2: 1, WEIGHT_ROWS: 1}
        uses.append(Use(0, 0, x_ids.reshape(rows, width, 1), NORM, sources=sources, fields=fields))
    if weight_ids is not None:
        use = Use(1, 0, weight_ids.expand(shape), outs=context.out_index())
        use.sources[WEIGHTS] = Source("derived", 1, derive=normalised)
        uses.append(use)
    if bias_ids is not None:
        uses.append(Use(2, 0, bias_ids.expand(shape), outs=context.out_index()))
    return uses


def normalised(node: Node) -> torch.Tensor:
    """x̂ = (x − mean) · rstd, as layer norm saved its parts."""
    x: torch.Tensor = node.saved("input")
    with torch.no_grad():
        return (x.detach() - node.saved("result1")) * node.saved("result2")


ROWS: dict[str, Callable[[Context], list[Use]]] = {
    "Softmax": _softmax_kind(SOFTMAX),
    "SafeSoftmax": _softmax_kind(SOFTMAX),
    "LogSoftmax": _softmax_kind(LOG_SOFTMAX),
    "NativeLayerNorm": _layer_norm,
}
"""Rule by operator name."""
