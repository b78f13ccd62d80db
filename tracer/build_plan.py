"""How a plan is made of one recording."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gradtrace.tracer import movement
from gradtrace.tracer.components import Recorded
from gradtrace.tracer.errors import BudgetError, LossError, UntraceableOperatorError
from gradtrace.tracer.hooks import every_hook, fewest_hooks
from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.kernels.state import PlanArrays
from gradtrace.tracer.maps import Positions, sources_of
from gradtrace.tracer.memory import check_memory
from gradtrace.tracer.plan import BASE, Capture, Options, Plan, Record
from gradtrace.tracer.rules import Context, Use, inplace, uses_of
from gradtrace.tracer.rules.base import Source
from gradtrace.tracer.rules.inplace import COPY_SLICES, is_movement
from gradtrace.tracer.structure import Layout, ancestry, describe
from gradtrace.tracer.use_rows import encode
from gradtrace.tracer.walk import Node, Walk


class _Builder:
    def __init__(self, walk: Walk, recorded: Recorded, model: nn.Module | None, options: Options) -> None:
        self.walk, self.recorded, self.model, self.options = walk, recorded, model, options
        self.nodes = walk.nodes
        self.read = {walk.root} | {i for node in self.nodes for i in node.inputs if i is not None}
        self.ids: dict[tuple[int, int], torch.Tensor] = {}
        self.possible: dict[tuple[int, int], set[int]] = {}
        self.tensors: list[tuple[int, int]] = []
        self.base: list[int] = []
        self.aliases: dict[int, list[int]] = {}
        self.operators: list[int] = []
        self.by_data: list[int] = []
        self.refresh: set[int] = set()
        self.records: list[Record] = []
        self.captures: list[Capture] = []
        self.slots: dict[tuple[int, Source], int] = {}
        self.probed: set[int] = set()
        self.rewritten: set[int] = set()

    def build(self) -> Plan:
        total = self._count_scalars()
        self.positions = Positions(total)
        self._place_leaves()
        self.leaf_tensors = len(self.tensors)
        for node in self.nodes[self.walk.leaves :]:
            self._place_operator(node)
        root_ids = self.ids[self.walk.root]
        loss = int(root_ids.reshape(-1)[0])
        if loss < 0:
            raise LossError("The loss is a constant as far as autograd knows: no parameter has a path to it.")
        bases = np.asarray(self.base, np.int64)
        self.bases = torch.from_numpy(bases)
        loss_tensor = int(np.searchsorted(bases, loss, side="right")) - 1
        if loss_tensor < self.leaf_tensors:
            raise LossError("The loss is an element of a parameter itself: no operator lies between them.")
        for index in list(self.operators):
            self._records_of(self.nodes[index])
        layout = describe(
            self.walk, self.recorded, self.model, self.tensors, self.leaf_tensors, self.aliases,
            [(r.tensor, r.node, r.use.slot) for r in self.records], self.operators, loss_tensor, self._producer,
            self._leaf_behind,
        )  # fmt: skip
        arrays = self._arrays(bases, layout, loss, loss_tensor)
        asked = {slot: (c.node, c.source.slot) for slot, c in enumerate(self.captures) if c.source.take == "gradient"}
        hooking = (self.operators, self.tensors, self.leaf_tensors, asked)
        learnt = np.array([p.tensor for p in layout.parameters if p.tensor is not None], np.int64)
        return Plan(
            self.options, arrays, self.records, self.captures, self.operators,
            self.by_data, self.refresh, self.ids, self.tensors, self.aliases, self.positions, layout, self.probed,
            self.rewritten,
            [tuple(self.nodes[n].shapes[o]) for n, o in self.tensors],
            {id(n.variable): n.index for n in self.nodes[: self.walk.leaves]},
            {
                n: [
                    (slot, (n, BASE) if slot == 0 and (n, BASE) in self.ids else place)
                    for slot, place in enumerate(self.nodes[n].inputs)
                    if place is not None
                ]
                for n in self.operators
            },
            learnt,
            int(arrays.base[self.leaf_tensors]) if self.leaf_tensors < len(bases) else int(bases[-1]) + int(arrays.size[-1]),
            np.array([products(int(t), arrays) for t in learnt], np.float64),
            int(arrays.size[arrays.track].max(initial=1)),
            [capture.source.strides for capture in self.captures],
            np.array(layout.vertex_of_tensor, np.int32),
            ancestry(layout),
            self.walk.order,
            [int(p) for p in np.argsort(np.array(self.walk.order))],
            self.walk.leaves,
            [
                (slot, self.walk.order[c.node], "_saved_" + c.source.name)
                for slot, c in enumerate(self.captures)
                if c.source.take == "saved"
            ],
            [(slot, c) for slot, c in enumerate(self.captures) if c.source.take in ("derived", "ones")],
            every_hook(*hooking),
            fewest_hooks(self.walk, *hooking),
        )  # fmt: skip

    def _count_scalars(self) -> int:
        leaves = sum(node.shapes[0].numel() for node in self.nodes[: self.walk.leaves])
        operators = sum(
            shape.numel()
            for node in self.nodes[self.walk.leaves :]
            if not is_movement(node)
            for at, shape in enumerate(node.shapes)
            if (node.index, at) in self.read
        )
        total = leaves + operators
        if total > self.options.scalar_budget:
            raise BudgetError(
                f"This step has {total:,} scalars, more than the budget of {self.options.scalar_budget:,}. "
                "Trace a smaller batch or sequence, or raise scalar_budget."
            )
        check_memory(leaves, operators, self.options.weights)
        return total

    def _new_tensor(self, node: int, output: int, shape: torch.Size) -> torch.Tensor:
        base = self.base[-1] + self._numel(self.tensors[-1]) if self.base else 0
        self.tensors.append((node, output))
        self.base.append(base)
        return self.positions.range(base, shape.numel()).view(shape)

    def _numel(self, tensor: tuple[int, int]) -> int:
        return self.nodes[tensor[0]].shapes[tensor[1]].numel()

    def _place_leaves(self) -> None:
        """Leaves in the model's order; those that share storage are one."""
        order = {id(p): at for at, p in enumerate(self.model.parameters())} if self.model is not None else {}
        leaves = sorted(self.nodes[: self.walk.leaves], key=lambda n: (order.get(id(n.variable), len(order)), n.index))
        first: dict[tuple[int, int, torch.dtype], int] = {}
        for node in leaves:
            variable = node.variable
            assert variable is not None  # leaves hold their variable
            storage = (variable.data_ptr(), variable.numel(), variable.dtype)
            twin = first.get(storage)
            if twin is not None and variable.numel() and self._same_layout(twin, variable):
                self.aliases[self.tensors.index((twin, 0))].append(node.index)
                self.ids[(node.index, 0)] = self.ids[(twin, 0)].view(variable.shape)
                self.possible[(node.index, 0)] = self.possible[(twin, 0)]
                continue
            first[storage] = node.index
            tensor = len(self.tensors)
            self.ids[(node.index, 0)] = self._new_tensor(node.index, 0, variable.shape)
            self.possible[(node.index, 0)] = {tensor}
            self.aliases[tensor] = [node.index]

    def _same_layout(self, twin: int, variable: torch.Tensor) -> bool:
        other = self.nodes[twin].variable
        return other is not None and (
            (other.shape == variable.shape and other.stride() == variable.stride())
            or (other.is_contiguous() and variable.is_contiguous())
        )

    def _place_operator(self, node: Node) -> None:
        if any(dtype.is_complex for dtype in node.dtypes):
            raise UntraceableOperatorError(
                f"{node.op} works on complex numbers; traces are defined for real scalars. Write that part with real tensors "
                "(torch.view_as_real), or keep it out of the graph.",
                node.op,
                tuple(node.shapes[0]),
            )
        operands = [None if i is None else self.ids[i] for i in node.inputs]
        possible = set().union(*(self.possible[i] for i in node.inputs if i is not None))
        dynamic = node.op in movement.BY_DATA or any(i is not None and i[0] in self.refresh for i in node.inputs)
        if node.op == COPY_SLICES:
            self._place_write(node, operands, possible, dynamic or inplace.by_data(node))
            return
        rule = movement.MOVEMENT[node.op] if is_movement(node) else None
        if rule is not None:
            if dynamic:
                self.by_data.append(node.index)
                self.refresh.add(node.index)
            for output, ids in enumerate(rule(node, operands)):
                self.ids[(node.index, output)] = ids
                self.possible[(node.index, output)] = possible
            return
        self.operators.append(node.index)
        for output, shape in enumerate(node.shapes):
            if (node.index, output) not in self.read:
                continue
            own = len(self.tensors)
            self.ids[(node.index, output)] = self._new_tensor(node.index, output, shape)
            self.possible[(node.index, output)] = {own}

    def _place_write(self, node: Node, operands: list[torch.Tensor | None], possible: set[int], dynamic: bool) -> None:
        """An in-place write into a part: movement if it copies, else an operator for the scalars of the part."""
        place = (node.index, 0)
        if dynamic:
            self.by_data.append(node.index)
            self.refresh.add(node.index)
        if is_movement(node):
            own = torch.full(node.shapes[0], -1, dtype=torch.int32)  # before torch 2.15 told from values, and refused
            self.possible[place] = possible
        else:
            self.operators.append(node.index)
            own = self._new_tensor(node.index, 0, node.shapes[0])
            base = node.inputs[0]
            self.possible[place] = {len(self.tensors) - 1} | (set() if base is None else self.possible[base])
            read = inplace.base_ids(node, operands)
            self.ids[(node.index, BASE)] = torch.full(node.shapes[0], -1, dtype=torch.int32) if read is None else read
        self.ids[place] = inplace.output_ids(node, operands, own, self.options.probe_budget)

    def _records_of(self, node: Node) -> None:
        """Records of all uses of one operator: one for each tensor that an operand can come from."""
        uses = uses_of(self.context(node))
        dynamic = any(i is not None and i[0] in self.refresh for i in node.inputs)
        if any(use.probed for use in uses):
            self.probed.add(node.index)
        if dynamic or any(use.probed or use.listed for use in uses):
            self.rewritten.add(node.index)
        for use in uses:
            source = node.inputs[use.slot]
            assert source is not None  # rules skip constants
            if dynamic or use.probed or use.listed:
                owners = [(t, 0, use.ids.numel()) for t in sorted(self.possible[source])]
            else:
                owners = sources_of(use.ids, self.bases, self.positions)
            shared = self.fill_row(node, use)
            for tensor, lo, hi in owners:
                record = Record(tensor, node.index, use, shared.row.copy(), shared.keep)
                record.row[L.LO], record.row[L.HI] = lo, hi
                self.records.append(record)

    def context(self, node: Node) -> Context:
        return Context(
            node,
            [None if i is None else self.ids[i] for i in node.inputs],
            [o for o in range(len(node.shapes)) if (node.index, o) in self.read],
            self.positions,
            self.options.weights,
            self.options.probe_budget,
        )

    def fill_row(self, node: Node, use: Use) -> Record:
        row, keep = encode(use, self.positions)
        row[L.OP] = node.index
        row[L.TARGET] = self.tensors.index((node.index, use.output)) if use.output else self._target(node.index, 0)
        for column, source in use.sources.items():
            row[column] = self._slot(node.index, source)
        return Record(-1, node.index, use, row, keep)

    def _target(self, node: int, output: int) -> int:
        if not hasattr(self, "_tensor_at"):
            self._tensor_at = {t: at for at, t in enumerate(self.tensors)}
        return self._tensor_at[(node, output)]

    def _slot(self, node: int, source: Source) -> int:
        key = (node, source)
        if key not in self.slots:
            self.slots[key] = len(self.captures)
            self.captures.append(Capture(node, source))
        return self.slots[key]

    def _producer(self, node: Node, slot: int) -> tuple[int, int] | None:
        """The operator that made an operand through movement, and the first gate chunk met on the way (-1: none)."""
        at, chunk = node.inputs[slot], -1
        while at is not None:
            made = self.nodes[at[0]]
            if made.variable is not None:
                return None
            if not is_movement(made):
                return made.index, chunk
            if chunk < 0 and made.op in ("Split", "UnsafeSplit", "SplitWithSizes"):
                chunk = at[1]
            at = next((i for i in made.inputs if i is not None), None)
        return None

    def _leaf_behind(self, node: Node, slot: int) -> int | None:
        """The leaf node that an operand is, through movement alone, or None."""
        at = node.inputs[slot]
        while at is not None:
            made = self.nodes[at[0]]
            if made.variable is not None:
                return made.index
            if not is_movement(made):
                return None
            at = made.inputs[0]
        return None

    def _arrays(self, bases: np.ndarray, layout: Layout, loss: int, loss_tensor: int) -> PlanArrays:
        count = len(self.tensors)
        uses = np.stack([r.row for r in self.records]) if self.records else np.zeros((0, L.WIDTH), np.int64)
        owners = np.array([r.tensor for r in self.records], np.int64)
        # Ties go to the consumer recorded first: records are made in forward order, slots ascending.
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], np.arange(count + 1))
        comp_inner, comp_count, comp_table = layout.component_arrays()
        ops, targets = (np.ascontiguousarray(uses[:, column]) for column in (L.OP, L.TARGET))
        constants = np.array([r.use.constant for r in self.records], np.float64)
        return PlanArrays(
            bases, np.array([self._numel(t) for t in self.tensors], np.int64), starts.astype(np.int64),
            order.astype(np.int64), uses, ops, targets, owners, constants, comp_inner, comp_count,
            comp_table, self._tracked(owners, uses, comp_count, comp_table), self.leaf_tensors, loss, loss_tensor,
        )  # fmt: skip

    def _tracked(self, owners: np.ndarray, uses: np.ndarray, count: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Tensors whose scalars may have candidates in different components."""
        track = np.zeros(len(self.tensors), np.bool_)
        blocks: dict[int, set[tuple[int, ...]]] = {}
        crossing: set[int] = set()
        for owner, row in zip(owners.tolist(), uses, strict=True):
            target = int(row[L.TARGET])
            blocks.setdefault(owner, set()).add(tuple(table[target, : count[target]].tolist()))
            if row[L.KIND] != L.PAIRS and not (row[L.KIND] == L.MM and row[L.UK] != 1):
                crossing.add(owner)
        for owner, kinds in blocks.items():
            members = {c for kind in kinds for c in kind}
            aligned = (
                len(kinds) == 1
                and owner not in crossing
                and next(iter(kinds)) == tuple(table[owner, : count[owner]].tolist())
            )
            track[owner] = len(members) > 1 and not aligned
        return track


def products(tensor: int, arrays: PlanArrays) -> float:
    """Products that the scalars of a tensor take part in, over all its uses."""
    rows = arrays.uses[arrays.use_list[arrays.use_start[tensor] : arrays.use_start[tensor + 1]]]
    return float((rows[:, L.D0] * rows[:, L.D1] * rows[:, L.D2] * np.maximum(rows[:, L.K], 1)).sum())


def build_plan(walk: Walk, recorded: Recorded, model: nn.Module | None, options: Options) -> Plan:
    """Plan one recording; must run before its backward (probing and in-place writes read the nodes themselves)."""
    return _Builder(walk, recorded, model, options).build()
