"""The autograd graph behind a loss, as plain records in forward order."""

from __future__ import annotations

import re
from collections.abc import Sequence
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

    @property
    def device(self) -> torch.device:
        """Where the operator's outputs lie."""
        found: torch.device = self.fn._input_metadata[0].device
        return found

    def saved(self, name: str) -> Any:
        """The value that the node saved under `name`, or None where it saved nothing of that name."""
        return getattr(self.fn, "_saved_" + name, None)

    def saved_int(self, name: str) -> int:
        """A saved integer; autograd hands out negative ones modulo 2**64."""
        return as_signed(self.saved(name))


@dataclass(slots=True)
class Skim:
    """All nodes below a loss, in the order in which a walk finds them: all that it takes to tell whether a plan still fits.

    Attributes:
        functions: the autograd nodes.
        names: their names.
        upstream: per node and operand, (position of the node that made it, output number), or None.
        numbers: autograd's running numbers (-1 for leaves).
        variables: leaf tensors by the position of their node.
        output: output number of the loss (its node is position 0).
    """

    functions: list[Any]
    names: list[str]
    upstream: list[tuple[tuple[int, int] | None, ...]]
    numbers: list[int]
    variables: dict[int, torch.Tensor]
    output: int


@dataclass(slots=True)
class Walk:
    """All nodes below a loss: leaves first, then operators in the order in which the forward pass recorded them.

    Attributes:
        nodes: the nodes.
        leaves: how many of them are leaves.
        root: (node, output) that is the loss.
        order: position in the `Skim` of each node.
    """

    nodes: list[Node]
    leaves: int
    root: tuple[int, int]
    order: list[int]


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


def below(root: Any) -> tuple[list[Any], list[tuple[tuple[int, int] | None, ...]]]:
    """All autograd nodes that a node depends on, itself first, and per node and operand (position of its maker, output number).

    Iterative: depth is bounded by memory only.
    """
    functions: list[Any] = [root]
    position: dict[Any, int] = {root: 0}
    upstream: list[tuple[tuple[int, int] | None, ...]] = []
    for fn in functions:  # grows meanwhile
        operands: list[tuple[int, int] | None] = []
        for made, output in fn.next_functions:
            if made is None:
                operands.append(None)
                continue
            found = position.get(made)
            if found is None:
                found = position[made] = len(functions)
                functions.append(made)
            operands.append((found, output))
        upstream.append(tuple(operands))
    return functions, upstream


def skim(loss: torch.Tensor) -> Skim:
    """Find all autograd nodes that `loss` depends on."""
    functions, upstream = below(loss.grad_fn)
    names = [fn.name() for fn in functions]
    variables = {at: functions[at].variable for at, name in enumerate(names) if name == ACCUMULATE}
    numbers = [-1 if at in variables else fn._sequence_nr() for at, fn in enumerate(functions)]
    return Skim(functions, names, upstream, numbers, variables, loss.output_nr)


def walk(skimmed: Skim) -> Walk:
    """The nodes of a recording with all that planning asks of them."""
    leaves = list(skimmed.variables)
    order = leaves + _forward_order(skimmed)
    position = [0] * len(order)
    for index, at in enumerate(order):
        position[at] = index
    return Walk([node_at(skimmed, at, position) for at in order], len(leaves), (position[0], skimmed.output), order)


def node_at(skimmed: Skim, at: int, position: Sequence[int]) -> Node:
    """One node of a recording; `position` maps places in the skim to node numbers."""
    fn, name = skimmed.functions[at], skimmed.names[at]
    variable = skimmed.variables.get(at)
    if variable is not None:
        return Node(fn, position[at], "", (), -1, variable, [variable.shape], [variable.dtype])
    metadata = fn._input_metadata
    return Node(
        fn,
        position[at],
        op_name(name),
        tuple(None if up is None else (position[up[0]], up[1]) for up in skimmed.upstream[at]),
        skimmed.numbers[at],
        None,
        [torch.Size(m.shape) for m in metadata],
        [m.dtype for m in metadata],
    )


def _forward_order(skimmed: Skim) -> list[int]:
    """Operators sorted so that each comes after what it reads; by sequence number wherever that allows it."""
    operators = [at for at, name in enumerate(skimmed.names) if name != ACCUMULATE]
    # Of equal numbers (another thread's) the one found later in the walk from the loss comes first.
    ordered = sorted(operators, key=lambda at: (skimmed.numbers[at], -at))
    place = {at: number for number, at in enumerate(ordered)}
    if all(place.get(up[0], -1) < place[at] for at in ordered for up in skimmed.upstream[at] if up is not None):
        return ordered
    # Numbers are per thread, and in-place writes rebase histories: fall back to a stable topological sort.
    done: set[int] = set()
    result = []
    for start in ordered:
        stack = [(start, False)]
        while stack:
            at, ready = stack.pop()
            if at in done:
                continue
            if ready:
                done.add(at)
                result.append(at)
                continue
            stack.append((at, True))
            ups = [up[0] for up in skimmed.upstream[at] if up is not None and up[0] in place and up[0] not in done]
            stack.extend((up, False) for up in sorted(ups, key=lambda up: -place[up]))
    return result
