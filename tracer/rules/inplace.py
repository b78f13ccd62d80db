"""In-place writes into a part of a tensor (autograd's CopySlices): what was written, where, and by which function.

The node wraps the backward function of the write, which works on the written part alone. Where that function is movement
(`y[1:3] = f`, `fill_`, `masked_fill_`) the whole node only renames scalars; otherwise (`y[1:3] += f`, `y[0].mul_(2)`) the
scalars outside the part are aliases of the base's, and those of the part cross one operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradtrace.tracer import movement
from gradtrace.tracer.errors import UntraceableOperatorError
from gradtrace.tracer.rules.probe import entries, refuse_beyond_budget
from gradtrace.tracer.walk import Node, op_name

COPY_SLICES = "CopySlices"


def inner(node: Node) -> Node | None:
    """The wrapped function as a node whose output is the written part; None where torch does not show it (before 2.15)."""
    fn = getattr(node.fn, "_wrapped_node", None)
    if fn is None:
        return None
    metadata = fn._input_metadata
    return Node(
        fn, node.index, op_name(fn.name()), node.inputs, node.sequence, None,
        [torch.Size(m.shape) for m in metadata], [m.dtype for m in metadata],
    )  # fmt: skip


def only_copies(node: Node) -> bool:
    """Whether the write copies its scalars: then the node is movement."""
    found = inner(node)
    return found is None or movement.is_movement(found)


def by_data(node: Node) -> bool:
    """Whether integer or boolean tensors (or, before torch 2.15, values) decide what is copied."""
    found = inner(node)
    return found is None or (found.op in movement.BY_DATA and movement.is_movement(found))


def signature(node: Node) -> tuple[Any, ...]:
    """What a plan's key needs of a write: the function, its numbers, and the part's place in the base."""
    found = inner(node)
    if found is None:
        return ()
    numbers = tuple(
        found.saved(name) for name in (*movement.ATTRIBUTES.get(found.op, ()), "alpha", "beta", "accumulate")
    )
    return (found.op, numbers, *_place(node))


class _Seen(Exception):
    """The part's place is known: no need to run the write's backward."""


class _Watch(TorchDispatchMode):
    """Sees the view that CopySlices takes of its gradient before it hands a copy of it to the wrapped function."""

    part: torch.Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.clone.default:
            self.part = args[0]
            raise _Seen
        return func(*args, **(kwargs or {}))


def _place(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]:
    """Shape, strides and offset of the written part in the base's storage, and the base's own strides."""
    gradient = torch.empty(node.shapes[0], dtype=node.dtypes[0], device=node.device)
    with torch.no_grad(), _Watch() as watch, suppress(_Seen):
        node.fn(gradient)
    part = watch.part
    if part is None:
        raise UntraceableOperatorError(
            f"An in-place write into a tensor of shape {tuple(node.shapes[0])} does not show which part it changed. "
            "Make the changed tensor anew instead (torch.cat, torch.where, slice_scatter).",
            node.op,
            tuple(node.shapes[0]),
        )
    base = part._base if part._base is not None else part
    return tuple(part.shape), tuple(part.stride()), part.storage_offset(), tuple(base.stride())


def part_of(node: Node) -> torch.Tensor:
    """Flat index into the base of every scalar of the written part, in the part's shape (int64)."""
    shape, strides, offset, base = _place(node)
    places = torch.empty_strided(node.shapes[0], base, dtype=torch.int64)
    places.copy_(torch.arange(places.numel()).view(places.shape))
    return places.as_strided(shape, strides, offset)


def operands_of_write(
    node: Node, operands: Sequence[torch.Tensor | None], part: torch.Tensor
) -> list[torch.Tensor | None]:
    """Ids of the operands of the wrapped function: of the base, only the part."""
    base = operands[0]
    return [None if base is None else base.reshape(-1)[part], *operands[1:]]


def output_ids(node: Node, operands: Sequence[torch.Tensor | None], own: torch.Tensor, budget: int) -> torch.Tensor:
    """Ids of the output: the base's outside the part; in it, those that the write copies, or the node's own (`own`)."""
    function = inner(node)
    if function is None:
        return _told_by_jacobian(node, operands, budget)
    base, part = operands[0], part_of(node)
    ids = (
        torch.full((own.numel(),), -1, dtype=torch.int32)
        if base is None
        else base.reshape(-1).to(torch.int32, copy=True)
    )
    written = own.reshape(-1)[part]
    if movement.is_movement(function):
        written = movement.MOVEMENT[function.op](function, operands_of_write(node, operands, part))[0]
    ids[part.reshape(-1)] = written.reshape(-1).to(torch.int32)
    return ids.view(own.shape)


def base_ids(node: Node, operands: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Ids of the base in its own shape with -1 outside the part: what the operator itself reads of it."""
    base = operands[0]
    if base is None or inner(node) is None:
        return base
    part = part_of(node).reshape(-1)
    ids = torch.full((base.numel(),), -1, dtype=torch.int32)
    ids[part] = base.reshape(-1)[part].to(torch.int32)
    return ids.view(base.shape)


def _told_by_jacobian(node: Node, operands: Sequence[torch.Tensor | None], budget: int) -> torch.Tensor:
    """Before torch 2.15 the function is not shown: an output scalar with one partial, equal to 1, is a copy."""
    refuse_beyond_budget(node, [0], budget)
    count = node.shapes[0].numel()
    ids = torch.full((count,), -1, dtype=torch.int32)
    reads = torch.zeros(count, dtype=torch.int64)
    arithmetic = False
    places = [None if i is None else torch.arange(i.numel(), dtype=torch.int32).view(i.shape) for i in operands]
    for slot, (at, outs, weights) in entries(node, places, 0).items():
        operand = operands[slot]
        assert operand is not None  # entries are of operands that take gradients
        there = weights != 0
        at, outs = at[there].long(), outs[there].long()
        reads.index_add_(0, outs, torch.ones_like(outs))
        arithmetic |= bool((weights[there] != 1).any()) or (slot == 0 and bool((at != outs).any()))
        ids[outs] = operand.reshape(-1)[at].to(ids.dtype)
    if arithmetic or bool((reads > 1).any()):
        raise UntraceableOperatorError(
            f"A part of a tensor (shape {tuple(node.shapes[0])}) is changed in place by arithmetic (such as y[1:3] += f), "
            f"which torch {torch.__version__} does not show. Update torch to 2.15, or write y[1:3] = y[1:3] + f.",
            node.op,
            tuple(node.shapes[0]),
        )
    return ids.view(node.shapes[0])


def is_movement(node: Node) -> bool:
    """Whether the node only renames scalars."""
    if node.op == COPY_SLICES:
        return only_copies(node)
    return movement.is_movement(node)
