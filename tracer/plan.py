"""A plan: everything about a step that its structure decides, worked out once and replayed while the structure repeats.

The plan holds the contracted graph (movement gone, as index maps), one use record for each operator edge, where each
tensor that the compiled code reads is to be found, the component of every scalar, and the `Graph` that sinks are given.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.hooks import Hooks
from gradtrace.tracer.kernels.state import PlanArrays
from gradtrace.tracer.maps import Positions
from gradtrace.tracer.rules import Use
from gradtrace.tracer.rules.base import Source
from gradtrace.tracer.structure import Ancestry, Layout
from gradtrace.tracer.workspace import Workspace

BASE = -1
"""In place of an output number: of a tensor written to in part, the scalars that the write itself reads."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a plan depends on besides the graph.

    Attributes:
        weights: whether maxprod is traced too (partials of one-to-one operands are then needed).
        probe_budget: output scalars that may be probed, per operator.
        scalar_budget: scalars that a step may have in all.
    """

    weights: bool = False
    probe_budget: int = 4096
    scalar_budget: int = 2**31 - 2


@dataclass(slots=True)
class Record:
    """One row of the use table and what fills its pointer columns."""

    tensor: int
    node: int
    use: Use
    row: np.ndarray
    keep: list[torch.Tensor] = field(default_factory=list)


@dataclass(slots=True)
class Capture:
    """A pointer slot and where each step finds its tensor."""

    node: int
    source: Source


@dataclass
class Plan:
    """See the module's docstring. Node numbers are positions in a `Walk` of equal key.

    Attributes:
        learnt: int64, plan tensors of the parameters that are traced; leaf_costs: float64, products that each takes part in.
        leaf_scalars: scalars of all leaves: their ids come first.
        most_tracked: scalars of the largest tensor of which candidate components are watched.
        strides: per capture, the layout in which the compiled code reads it (None: contiguous).
        vertex_of: int32, per tensor.
        order: per node number, its position in a `Skim` of equal key; position: the reverse.
        leaf_nodes: how many nodes are leaves.
        saved: (pointer slot, position in a `Skim`, attribute) of every saved tensor.
        worked_out: pointer slots whose tensors are worked out before the backward.
        all_hooks, hooks: where gradients are caught, the first time and once they were found to add up.
        consistent: whether Σ w·g = g held when it was looked at; None before.
        in_grad: whether `.grad` held what had arrived at each leaf when it was looked at; None before.
        workspace: arrays that steps use again; None while a step has them.
        telling: by batch size, which operators tell the time step and the example of a trace (see `places`).
    """

    options: Options
    arrays: PlanArrays
    records: list[Record]
    captures: list[Capture]
    operators: list[int]
    by_data: list[int]
    refresh: set[int]
    ids: dict[tuple[int, int], torch.Tensor]
    tensors: list[tuple[int, int]]
    aliases: dict[int, list[int]]
    positions: Positions
    layout: Layout
    probed: set[int]
    rewritten: set[int]
    shapes: list[tuple[int, ...]]
    leaf_of: dict[int, int]
    operands: dict[int, list[tuple[int, tuple[int, int]]]]
    learnt: np.ndarray
    leaf_scalars: int
    leaf_costs: np.ndarray
    most_tracked: int
    strides: list[tuple[int, ...] | None]
    vertex_of: np.ndarray
    ancestry: Ancestry
    order: list[int]
    position: list[int]
    leaf_nodes: int
    saved: list[tuple[int, int, str]]
    worked_out: list[tuple[int, Capture]]
    all_hooks: Hooks
    hooks: Hooks
    unread: dict[int, int] = field(default_factory=dict)
    consistent: bool | None = None
    in_grad: bool | None = None
    workspace: Workspace | None = None
    telling: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, int, int]] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The operator graph that sinks are given."""
        return self.layout.graph
