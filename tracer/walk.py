"""The autograd graph behind a loss, as plain records in forward order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch

from gradtrace.tracer.errors import LossError

ACCUMULATE = "torch::autograd::AccumulateGrad"
_SUFFIX = re.compile(r"Backward\d*(_copy)?$")


@dataclass(slots=True)
class Node:
    """One autograd node.

    Attributes:
        fn: the node itself; the reference keeps its Python wrapper alive, which is its identity.
        index: position in the walk.
        op: its name without the `BackwardN` ending.
        inputs: per operand (index of the node that made it, output number), or None for a constant.
        shapes, dtypes: of the operator's outputs.
        variable: the leaf tensor, for an AccumulateGrad node.
        sequence: autograd's running number: the order of recording.
    """

    fn: Any
    index: int
    op: str
    inputs: tuple[tuple[int, int] | None, ...]
    sequence: int
    variable: torch.Tensor | None = None
    shapes: list[torch.Size] = field(default_factory=list)
    dtypes: list[torch.dtype] = field(default_factory=list)

    def saved(self, name: str) -> Any:
        """The value that the node saved under `name`, or None where it saved nothing of that name."""
        return getattr(self.fn, "_saved_" + name, None)

    def saved_int(self, name: str) -> int:
        """A saved integer; autograd hands out negative ones modulo 2**64."""
        return as_signed(self.saved(name))


@dataclass(slots=True)
class Walk:
    """All nodes below a loss: leaves first, then operators in the order in which the forward pass recorded them."""

    nodes: list[Node]
    leaves: int
    root: tuple[int, int]


def as_signed(value: int) -> int:
    """Undo autograd's wrapping of negative integers to unsigned 64-bit."""
    return value - 2**64 if value >= 2**63 else value


def op_name(node_name: str) -> str:
    """`"AddmmBackward0"` → `"Addmm"`, `"torch::autograd::CopySlices"` → `"CopySlices"`."""
    return _SUFFIX.sub("", node_name.rsplit("::", 1)[-1])


def check_loss(loss: Any) -> None:
    """Refuse what has no gradient to trace, in words that say what to do."""
    if not isinstance(loss, torch.Tensor):
        raise LossError(f"The loss is a {type(loss).__name__}; tracing needs a scalar tensor that autograd recorded.")
    if loss.numel() != 1:
        raise LossError(f"Loss has shape {tuple(loss.shape)}; tracing needs a scalar. Did you mean loss.mean()?")
    if loss.is_inference():
        raise LossError(
            "The loss was made in inference mode, which records no graph. Leave torch.inference_mode() for the forward pass."
        )
    if loss.is_complex():
        raise LossError("The loss is complex; tracing needs a real scalar. Did you mean loss.abs()?")
    if loss.grad_fn is None:
        if loss.requires_grad:
            raise LossError("The loss is a leaf itself: no operator was recorded between it and a parameter.")
        raise LossError(
            "The loss has no grad_fn: nothing that requires a gradient led to it. Are all parameters frozen, or was it "
            "made under torch.no_grad() or detached?"
        )


def walk(loss: torch.Tensor) -> Walk:
    """All autograd nodes that `loss` depends on. Iterative: depth is bounded by memory only."""
    root: Any = loss.grad_fn
    found: dict[Any, tuple[tuple[Any, int], ...]] = {}
    stack = [root]
    while stack:
        fn = stack.pop()
        if fn in found:
            continue
        found[fn] = fn.next_functions
        for upstream, _ in found[fn]:
            if upstream is not None and upstream not in found:
                stack.append(upstream)
    leaves: list[Any] = []
    operators: list[Any] = []
    for fn in found:
        (leaves if fn.name() == ACCUMULATE else operators).append(fn)
    ordered = _forward_order(operators, found)
    position = {fn: at for at, fn in enumerate(leaves + ordered)}
    nodes = []
    for fn in leaves:
        variable = fn.variable
        node = Node(fn, position[fn], "", (), -1, variable, [variable.shape], [variable.dtype])
        nodes.append(node)
    for fn in ordered:
        inputs = tuple(None if up is None else (position[up], nr) for up, nr in found[fn])
        metadata = fn._input_metadata
        nodes.append(
            Node(
                fn,
                position[fn],
                op_name(fn.name()),
                inputs,
                fn._sequence_nr(),
                None,
                [torch.Size(m.shape) for m in metadata],
                [m.dtype for m in metadata],
            )
        )
    return Walk(nodes, len(leaves), (position[root], loss.output_nr))


def _forward_order(operators: list[Any], found: dict[Any, tuple[tuple[Any, int], ...]]) -> list[Any]:
    """Operators sorted so that each comes after what it reads; by sequence number wherever that allows it."""
    ordered = sorted(operators, key=lambda fn: fn._sequence_nr())
    place = {fn: at for at, fn in enumerate(ordered)}
    if all(place.get(up, -1) < place[fn] for fn in ordered for up, _ in found[fn] if up is not None):
        return ordered
    # Numbers are per thread, and in-place writes rebase histories: fall back to a stable topological sort.
    done: set[Any] = set()
    result = []
    for start in ordered:
        stack = [(start, False)]
        while stack:
            fn, ready = stack.pop()
            if fn in done:
                continue
            if ready:
                done.add(fn)
                result.append(fn)
                continue
            stack.append((fn, True))
            ups = [up for up, _ in found[fn] if up is not None and up in place and up not in done]
            stack.extend((up, False) for up in sorted(ups, key=lambda up: -place[up]))
    return result
