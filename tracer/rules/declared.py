"""Rules that users declare for their own `torch.autograd.Function`s, in one line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gradtrace.tracer.errors import TraceError, UntraceableOperatorError
from gradtrace.tracer.movement import call
from gradtrace.tracer.rules.base import Context, Entries, Use
from gradtrace.tracer.rules.pairs import elementwise
from gradtrace.tracer.rules.probe import with_the_rest
from gradtrace.tracer.walk import Node

KINDS = ("elementwise", "rows")
_DECLARED: dict[type, str] = {}


def declare(function: type[torch.autograd.Function], kind: str) -> None:
    """Say how the scalars of a custom function depend on each other, so that it need not be probed one by one.

    Args:
        function: a subclass of `torch.autograd.Function` with one output.
        kind: `"elementwise"`: output scalar i reads scalar i of each operand, broadcast to the output's shape;
            `"rows"`: scalars of the output read only what has the same place in all dimensions but the last: one backward
            call serves one column of all rows.

    Raises:
        TraceError: no such kind, or no such function. (A function that is not what it was declared to be is refused when it
            is traced: the declaration is checked against its backward.)

    >>> declare(Swish, "elementwise")
    """
    if kind not in KINDS:
        raise TraceError(f"{kind!r} is no kind of function; there are: {', '.join(KINDS)}.")
    if not (isinstance(function, type) and issubclass(function, torch.autograd.Function)):
        raise TraceError(f"{function!r} is no subclass of torch.autograd.Function.")
    _DECLARED[function._backward_cls] = kind


def kind_of(node: Node) -> str | None:
    """What the function behind a node was declared to be."""
    return _DECLARED.get(type(node.fn))


def declared(context: Context) -> list[Use]:
    """Uses of a declared function."""
    node, shape = context.node, context.node.shapes[0]
    operands = [ids for ids in context.ids if ids is not None]
    if len(node.shapes) > 1:
        raise _refuse(node, "it has several outputs")
    if kind_of(node) == "elementwise":
        if any(ids.shape != shape for ids in operands):
            raise _refuse(node, "it has operands of another shape than its output's (expand them before)")
        _check_elementwise(node)
        return elementwise(context)
    if not shape or any(ids.dim() != len(shape) or ids.shape[:-1] != shape[:-1] for ids in operands):
        raise _refuse(node, "its operands have not the rows of its output")
    return [Use(slot, 0, ids, listed=_row_edges(slot)) for slot, ids in enumerate(context.ids) if ids is not None]


def _refuse(node: Node, why: str) -> UntraceableOperatorError:
    return UntraceableOperatorError(
        f"{node.op} was declared {kind_of(node)!r}, but {why}. Declare what it is, or leave it to probing.",
        node.op,
        tuple(node.shapes[0]),
    )


def _drawn(node: Node) -> torch.Tensor:
    """A gradient without regularities, the same each time."""
    place = torch.arange(1.0, node.shapes[0].numel() + 1, dtype=torch.float64)
    return torch.sin(place * place * 0.7).reshape(node.shapes[0]).to(node.dtypes[0])


def _agree(got: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Equal up to rounding; what is not finite tells nothing."""
    gap, size = (got - wanted).abs(), wanted.abs().max() if wanted.numel() else 0.0
    return not bool((gap > size * 32 * torch.finfo(got.dtype).eps ** 0.75).any())


def _check_elementwise(node: Node) -> None:
    gradient = _drawn(node)
    for got, ones in zip(call(node, gradient), call(node, torch.ones_like(gradient)), strict=True):
        if got is not None and ones is not None and not _agree(got, ones * gradient):
            raise _refuse(node, "its backward mixes scalars")


def _row_edges(slot: int) -> Callable[[Node, Sequence[torch.Tensor | None]], Entries]:
    def edges(node: Node, ids: Sequence[torch.Tensor | None]) -> Entries:
        operand = ids[slot]
        assert operand is not None  # listed only where it takes a gradient
        shape = node.shapes[0]
        rows, width = shape[:-1].numel(), shape[-1]
        own = operand.reshape(rows, -1)
        gradient, drawn = torch.zeros(shape, dtype=node.dtypes[0]), _drawn(node)
        total = torch.zeros(own.shape, dtype=node.dtypes[0])
        found: list[Entries] = []
        for column in range(width):
            gradient[..., column] = 1
            part = call(node, gradient)[slot]
            gradient[..., column] = 0
            if part is None:
                continue
            weights = part.detach().reshape(own.shape).clone()
            total += weights * drawn.reshape(rows, width)[:, column, None]
            outs = (torch.arange(rows, dtype=torch.int32) * width + column)[:, None].expand(own.shape)
            there = weights != 0
            found.append((own[there].to(torch.int32), outs[there], weights[there]))
        whole = call(node, drawn)[slot]
        if whole is not None and not _agree(whole.reshape(own.shape), total):
            raise _refuse(node, "its backward mixes rows")
        return with_the_rest(operand, found, node.dtypes[0])

    return edges
