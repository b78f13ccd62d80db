"""What one step has to keep: saved tensors before its backward, gradients as the engine works them out.

One ordinary backward: references to saved tensors are taken before it, so it may free its buffers, and every operator has
one hook at most, a bound method of a dict, which costs no Python call. Gradients of leaves are read from `.grad` where that
was empty before and is known to hold what arrives; else leaves have hooks too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradtrace.tracer import movement
from gradtrace.tracer.blocking import masked
from gradtrace.tracer.errors import UntraceableOperatorError
from gradtrace.tracer.hooks import Hooks, Place
from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.movement import call
from gradtrace.tracer.plan import BASE, Plan
from gradtrace.tracer.rules import Context, inplace, uses_of, write_entries
from gradtrace.tracer.rules.base import Source
from gradtrace.tracer.rules.inplace import is_movement
from gradtrace.tracer.rules.probe import entries
from gradtrace.tracer.use_rows import encode
from gradtrace.tracer.walk import Node, Skim, below, node_at

if TYPE_CHECKING:
    from gradtrace.tracer.scalars import ScalarEdges


@dataclass
class Captured:
    """Tensors of one step, by the plan's numbers.

    Attributes:
        uses: the plan's use table, with this step's tables for what depends on data.
        tensors: per pointer slot, the tensor (gradients are filled in by `finish`).
        outputs: per tensor of the plan, the gradient of its scalars, or None.
        keep: what the addresses in `uses` point into.
        root: the loss's autograd node.
        caught: what each hook of `hooks` was shown; arrived: likewise for leaf nodes.
        by_grad: the leaves themselves, by leaf node, where gradients are read from `.grad`.
        blocked: tensors through whose scalars no gradient passes → which of their blocks.
        scalars: the edges of the scalar graph, where it is spelt out.
    """

    plan: Plan
    root: Any
    uses: np.ndarray
    tensors: list[torch.Tensor | None]
    outputs: list[torch.Tensor | None] = field(default_factory=list)
    keep: list[Any] = field(default_factory=list)
    caught: list[dict[Any, Any]] = field(default_factory=list)
    arrived: list[list[Any]] = field(default_factory=list)
    by_grad: list[torch.Tensor] | None = None
    handles: list[Any] = field(default_factory=list)
    ids: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    hooks: Hooks | None = None
    blocked: dict[int, tuple[int, ...]] = field(default_factory=dict)
    scalars: ScalarEdges | None = None

    def find(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Ids of the scalars of a recorded tensor or leaf, in its shape; None if this step did not record it."""
        if tensor.grad_fn is None:
            index = self.plan.leaf_of.get(id(tensor))
            return None if index is None else self.plan.ids[(index, 0)]
        functions, _ = below(self.root)
        if tensor.grad_fn not in functions:
            return None
        index = self.plan.position[functions.index(tensor.grad_fn)]
        place = (index, tensor.output_nr)
        return self.ids.get(place, self.plan.ids.get(place))

    @property
    def doubled(self) -> bool:
        """Whether some operator works in float64; all is then traced in it."""
        return any(g is not None and g.dtype is torch.float64 for g in self.outputs[self.plan.arrays.leaves :])

    def _consistent(self, gradients: list[tuple[Any, Any]]) -> bool:
        """Whether Σ w·g_u = g_v held, in sum over each operator's output (looked at once a structure).

        A tensor hook that scales a gradient, or a backward that is not the forward's, shows here.
        """
        bases = torch.from_numpy(self.plan.arrays.base)
        total, size = torch.zeros(len(bases), dtype=torch.float64), torch.zeros(len(bases), dtype=torch.float64)
        # The first time every operator has a hook.
        for (incoming, _), operands in zip(gradients, self.plan.operands.values(), strict=True):
            for slot, place in operands:
                part = incoming[slot] if incoming is not None else None
                ids = self.ids.get(place, self.plan.ids[place])
                if part is None or part.shape != ids.shape:
                    continue
                flat, values = ids.reshape(-1), part.detach().to("cpu", torch.float64).reshape(-1)
                if not flat.numel():
                    continue
                first, last = (int(np.searchsorted(self.plan.arrays.base, int(e), "right")) - 1 for e in flat.aminmax())
                if first == last >= 0:  # all of one tensor, as mostly: no need to ask for each
                    total[first] += values.sum()
                    size[first] += values.abs().sum()
                    continue
                flat = flat.long()
                owners = torch.searchsorted(bases, flat[flat >= 0], right=True) - 1
                total.index_add_(0, owners, values[flat >= 0])
                size.index_add_(0, owners, values[flat >= 0].abs())
        for tensor in range(self.plan.arrays.leaves, len(bases)):
            outgoing = self.outputs[tensor]
            if outgoing is None or tensor == self.plan.arrays.loss_tensor or tensor in self.blocked:
                continue
            index, output = self.plan.tensors[tensor]
            if (index, BASE) in self.plan.ids:  # of a write into a part, the scalars that are not the base's
                ids = self.ids.get((index, output), self.plan.ids[(index, output)])
                outgoing = outgoing[ids == self.plan.positions.range(int(bases[tensor]), ids.numel()).view(ids.shape)]
            if abs(float(total[tensor]) - float(outgoing.double().sum())) > 1e-3 * float(size[tensor]) + 1e-30:
                return False
        return True

    def finish(self) -> None:
        """Sort what the hooks caught, and take the hooks off again."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        gradients = [_only(caught) for caught in self.caught]
        hooks = self.hooks
        assert hooks is not None  # `capture` chose them

        def seen(place: Place) -> torch.Tensor | None:
            sides = gradients[place[0]][place[1]]
            return _solid(sides[place[2]]) if sides is not None else None

        for slot, operand in hooks.operands:
            self.tensors[slot] = seen(operand)
        for tensor, place in enumerate(hooks.outputs):
            self.outputs.append(self._of_leaf(tensor) if place is None else seen(place))
        if self.plan.consistent is None:
            self.plan.consistent = self._consistent(gradients)
        for tensor, blocks in self.blocked.items():  # with gradient 0 no scalar of theirs is a candidate
            gradient = self.outputs[tensor]
            if gradient is not None:
                self.outputs[tensor] = masked(gradient, self.plan, tensor, blocks)
        self.caught.clear()
        self.arrived.clear()
        self.by_grad = None

    def _of_leaf(self, tensor: int) -> torch.Tensor | None:
        nodes = self.plan.aliases[tensor]
        if self.by_grad is not None:
            parts = [self.by_grad[node].grad for node in nodes]
        else:
            parts = [part for node in nodes for (part,) in self.arrived[node]]
        total: torch.Tensor | None = None
        for part in map(_solid, parts):
            if part is not None:
                total = part if total is None else total + part.reshape(total.shape)
        return total

    def look_at_grad(self, leaves: list[torch.Tensor]) -> None:
        """Find out whether `.grad`, empty before, holds what arrived at each leaf: once a structure, before `finish`.

        Hooks that run after accumulation, such as those of an optimiser in the backward, may have changed or taken it.
        """
        self.plan.in_grad = all(
            len(arrived) <= 1 and _same(arrived[0][0] if arrived else None, leaf.grad)
            for arrived, leaf in zip(self.arrived, leaves, strict=True)
        )


def _same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b if a is None or b is None else a.dtype is b.dtype and torch.equal(a, b)


def _solid(gradient: torch.Tensor | None) -> torch.Tensor | None:
    """Zeros may come without memory; they are as good as no gradient."""
    return None if gradient is None or gradient._is_zerotensor() else gradient


def _only(caught: dict[Any, Any]) -> tuple[Any, Any]:
    for inputs, outputs in caught.items():
        return inputs, outputs
    return None, None


class _Nodes:
    """Nodes of this recording by the plan's numbers, made when they are asked for."""

    def __init__(self, plan: Plan, skimmed: Skim) -> None:
        self._plan, self._skimmed = plan, skimmed
        self._made: dict[int, Node] = {}

    def __getitem__(self, index: int) -> Node:
        if index not in self._made:
            self._made[index] = node_at(self._skimmed, self._plan.order[index], self._plan.position)
        return self._made[index]


def capture(plan: Plan, skimmed: Skim, leaf_hooks: bool, blocked: dict[int, tuple[int, ...]] | None = None) -> Captured:
    """Take what the plan needs of this recording and hook its nodes (and its leaves); to be called before the backward."""
    nodes = _Nodes(plan, skimmed)
    functions = skimmed.functions
    held = Captured(plan, functions[0], plan.arrays.uses.copy(), [None] * len(plan.captures), blocked=blocked or {})
    partials: dict[int, tuple[torch.Tensor | None, ...]] = {}
    for slot, at, name in plan.saved:
        value = getattr(functions[at], name, None)
        held.tensors[slot] = value if isinstance(value, torch.Tensor) else None
    for slot, wanted in plan.worked_out:
        held.tensors[slot] = take(nodes[wanted.node], wanted.source, partials)
    if plan.by_data or plan.rewritten:
        _refresh(held, nodes, partials)
    # The two sides of a blocked operator do not see the same gradient, so none can stand for its neighbour's.
    held.hooks = plan.hooks if plan.consistent and not held.blocked else plan.all_hooks
    for index in held.hooks.nodes:
        found: dict[Any, Any] = {}
        held.caught.append(found)
        held.handles.append(functions[plan.order[index]].register_hook(found.__setitem__))
    if leaf_hooks:
        for at in plan.order[: plan.leaf_nodes]:
            arrived: list[Any] = []
            held.arrived.append(arrived)
            held.handles.append(functions[at].register_prehook(arrived.append))
    return held


def take(node: Node, source: Source, partials: dict[int, tuple[torch.Tensor | None, ...]]) -> torch.Tensor | None:
    """The tensor that a source has worked out before the backward, or None."""
    if source.take == "derived":
        assert source.derive is not None  # "derived" sources say how
        return source.derive(node).detach()
    if source.take == "ones":
        if node.index not in partials:
            partials[node.index] = call(node, torch.ones(node.shapes[0], dtype=node.dtypes[0]))
        found = partials[node.index][source.slot]
        return torch.zeros(source.count) if found is None else whole(node, found.detach(), source.count)
    return None


def whole(node: Node, partials: torch.Tensor, count: int) -> torch.Tensor:
    """Partials of an operand that may be broadcast: as a rule autograd leaves its copies apart, but zeros may come summed."""
    if partials._is_zerotensor() or (partials.numel() < count and not bool(partials.any())):
        return torch.zeros(count)
    if partials.numel() < count:
        raise UntraceableOperatorError(
            f"{node.op} sums the gradients of a broadcast operand by itself, so that its copies cannot be told apart. "
            "Expand that operand to the shape of the result before the operator.",
            node.op,
            tuple(node.shapes[0]),
        )
    return partials


def _refresh(held: Captured, nodes: _Nodes, partials: dict[int, tuple[torch.Tensor | None, ...]]) -> None:
    """Work out anew where scalars go wherever integer or boolean tensors, or probing, decide it."""
    plan = held.plan
    ids = dict(plan.ids)
    for index in plan.by_data:
        node = nodes[index]
        operands = [None if i is None else ids[i] for i in node.inputs]
        if node.op == inplace.COPY_SLICES:
            if is_movement(node):
                own = torch.full(node.shapes[0], -1, dtype=torch.int32)
            else:
                tensor = plan.tensors.index((index, 0))
                own = plan.positions.range(int(plan.arrays.base[tensor]), node.shapes[0].numel()).view(node.shapes[0])
                read = inplace.base_ids(node, operands)
                if read is not None:
                    ids[(index, BASE)] = read
            made = [inplace.output_ids(node, operands, own, plan.options.probe_budget)]
        else:
            made = movement.MOVEMENT[node.op](node, operands)
        for output, found in enumerate(made):
            ids[(index, output)] = found
    held.ids = ids
    by_node: dict[int, list[int]] = {}
    for at, record in enumerate(plan.records):
        if record.node in plan.rewritten:
            by_node.setdefault(record.node, []).append(at)
    for index, records in by_node.items():
        _rewrite(held, nodes[index], records, ids, partials)


def _rewrite(
    held: Captured,
    node: Node,
    records: list[int],
    ids: dict[tuple[int, int], torch.Tensor],
    partials: dict[int, tuple[torch.Tensor | None, ...]],
) -> None:
    plan = held.plan
    operands = [None if i is None else ids[i] for i in node.inputs]
    outputs = sorted({plan.records[at].use.output for at in records})
    context = Context(node, operands, outputs, plan.positions, plan.options.weights, plan.options.probe_budget)
    fresh = {(use.slot, use.output, use.part): use for use in uses_of(context)}
    probed = {}
    if node.index in plan.probed:
        write = node.op == inplace.COPY_SLICES
        probed = {o: write_entries(node, operands) if write else entries(node, operands, o) for o in outputs}
    for at in records:
        record = plan.records[at]
        use = fresh[(record.use.slot, record.use.output, record.use.part)]
        row = held.uses[at]
        if use.probed or use.listed:
            found = use.listed(node, operands) if use.listed else probed[use.output][use.slot]
            own_ids, outs, weights = found
            held.keep += [own_ids, outs]
            row[L.ID_TABLE], row[L.OUT_TABLE] = own_ids.data_ptr(), outs.data_ptr()
            row[L.D0], row[L.D1], row[L.D2] = 1, 1, own_ids.numel()
            row[L.LO], row[L.HI] = 0, own_ids.numel()
            row[L.WEIGHTS] = len(held.tensors)
            held.tensors.append(weights)
            continue
        new, keep = encode(use, plan.positions)
        held.keep += keep
        columns = [L.D0, L.D1, L.D2, L.ID_TABLE, L.ID_START, L.ID_S0, L.ID_S1, L.ID_S2, L.OUT_TABLE, L.OUT_START,
                   L.OUT_S0, L.OUT_S1, L.OUT_S2, L.LO, L.HI]  # fmt: skip
        row[columns] = new[columns]
