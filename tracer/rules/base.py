"""What a rule is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from gradtrace.tracer.kernels.layout import PAIRS
from gradtrace.tracer.walk import Node

Entries = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Scalar edges of one operand: ids int32 [E], output indices int32 [E], weights [E]."""

MAX_PARTIALS = 1 << 24
"""Partials of one operator that a rule works out at every step; an operator that has more is left to probing."""


@dataclass(frozen=True)
class Source:
    """A tensor that the compiled code reads: where a step finds it.

    Attributes:
        take: "saved" (kept by the node for its backward), "derived" (worked out from saved tensors before the backward),
            "ones" (the node's own backward, called with a gradient of ones: its partials where each operand scalar has one
            consumer), or "gradient" (of an operand, caught as the engine runs the node).
        slot: operand that it concerns.
        name: of the saved tensor.
        derive: node -> tensor.
        count: elements that the record reads, where a node may answer with nothing ("ones").
        strides: layout in which the record reads it; None for contiguous.
    """

    take: str
    slot: int = 0
    name: str = ""
    derive: Callable[[Node], torch.Tensor] | None = None
    count: int = 0
    strides: tuple[int, ...] | None = None


@dataclass
class Use:
    """How one operand slot reaches one output of an operator; the planner turns it into a record of `kernels.layout`.

    Attributes:
        slot: operand slot.
        output: output number of the operator.
        ids: ids of the operand's scalars, laid out as the record's positions (for PAIRS any shape; else [D0, D1, D2]).
        kind: record kind.
        outs: PAIRS: output index of every position, shaped as `ids`.
        sources: record column → Source.
        fields: record column → number.
        constant: factor of every weight.
        part: tells several uses of one slot and output apart.
        listed: PAIRS whose positions, outputs and weights depend on values: (node, ids of its operands) -> `Entries`, asked
            anew at every step.
        probed: likewise, but read off the node's own backward (see `probe.entries`).
    """

    slot: int
    output: int
    ids: torch.Tensor
    kind: int = PAIRS
    outs: torch.Tensor | None = None
    sources: dict[int, Source] = field(default_factory=dict)
    fields: dict[int, int] = field(default_factory=dict)
    constant: float = 1.0
    part: int = 0
    listed: Callable[[Node, Sequence[torch.Tensor | None]], Entries] | None = None
    probed: bool = False


@dataclass
class Context:
    """One operator as a rule sees it.

    Attributes:
        node: the autograd node.
        ids: per operand, the ids of its scalars in the operand's shape, or None for a constant.
        outputs: output numbers that something reads.
        positions: n -> int32 tensor 0..n-1, a view of shared storage, so that index maps stay strided views.
        weights: whether partials of one-to-one operands are needed besides the operands' gradients (maxprod).
        budget: output scalars that may be probed for this operator.
    """

    node: Node
    ids: list[torch.Tensor | None]
    outputs: list[int]
    positions: Callable[[int], torch.Tensor]
    weights: bool
    budget: int

    def unused(self, slot: int, read: torch.Tensor) -> list[Use]:
        """An operator reads its operands whole: a use of weight 0 for the flat places of one that none of `read` is."""
        ids = self.ids[slot]
        assert ids is not None  # constants have no uses
        left = torch.ones(ids.numel(), dtype=torch.bool)
        left[read.reshape(-1).long()] = False
        if not bool(left.any()):
            return []
        rest = ids.reshape(-1)[left]
        outs = torch.zeros(rest.shape, dtype=torch.int32)
        return [Use(slot, self.outputs[0], rest, outs=outs, constant=0.0, part=1)]

    def out_index(self, output: int = 0) -> torch.Tensor:
        """Flat index of every scalar of an output, in the output's shape."""
        shape = self.node.shapes[output]
        return self.positions(shape.numel()).view(shape)
