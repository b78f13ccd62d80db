"""Arithmetic in place on a part of a tensor: the wrapped function's own rule, with its output placed in the base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from gradtrace.tracer.kernels.layout import WEIGHTS
from gradtrace.tracer.movement import call
from gradtrace.tracer.rules import inplace
from gradtrace.tracer.rules.base import Context, Entries, Source, Use
from gradtrace.tracer.rules.pairs import ELEMENTWISE, elementwise
from gradtrace.tracer.rules.probe import entries, probed
from gradtrace.tracer.walk import Node


def write(context: Context) -> list[Use]:
    """Uses of a CopySlices node that is an operator: positions are scalars of the part, outputs lie in the base."""
    function = _function(context.node)
    part = inplace.part_of(context.node)
    ids = inplace.operands_of_write(context.node, context.ids, part)
    shape = function.shapes[0]
    within = replace(context, node=function, ids=ids, outputs=[0])
    if function.op not in ELEMENTWISE or any(i is not None and i.numel() > shape.numel() for i in ids):
        return probed(within)
    uses = elementwise(within)
    for use in uses:
        use.outs = part.to(torch.int32)
        if use.sources:
            use.sources = {WEIGHTS: Source("derived", use.slot, derive=_partial(use.slot, shape))}
    return uses


def write_entries(node: Node, ids: Sequence[torch.Tensor | None]) -> dict[int, Entries]:
    """All scalar edges into the written part, by operand slot, by probing the wrapped function."""
    part = inplace.part_of(node)
    found = entries(_function(node), inplace.operands_of_write(node, ids, part), 0)
    places = part.reshape(-1).to(torch.int32)
    return {slot: (own, places[outs.long()].contiguous(), weights) for slot, (own, outs, weights) in found.items()}


def _function(node: Node) -> Node:
    found = inplace.inner(node)
    assert found is not None  # without it the node is movement, or was refused
    return found


def _partial(slot: int, shape: torch.Size) -> Callable[[Node], torch.Tensor]:
    def derive(node: Node) -> torch.Tensor:
        function = _function(node)
        found = call(function, torch.ones(shape, dtype=function.dtypes[0]))[slot]
        return torch.zeros(shape) if found is None else found.expand(shape)

    return derive
