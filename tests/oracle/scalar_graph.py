"""The explicit scalar graph: every scalar a vertex, every partial an edge, movement contracted away."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from tests.oracle.movement import moved
from tests.oracle.probing import Jacobian, jacobian
from tests.oracle.recording import Node, Recording

CONSTANT = -1


@dataclass(eq=False)
class ScalarGraph:
    """Scalars are numbered over all outputs of all nodes; `root` names the vertex that each is an alias of.

    Attributes:
        recording: the nodes, kept alive.
        offsets: per node and output, the number of its first scalar.
        owner: per scalar, the position of its node; `output`: which output; `flat`: place in that output.
        root: per scalar, the vertex it is (itself if nothing was moved), or CONSTANT.
        crossing: per scalar, whether it is the output of an operator (and not moved, nor a leaf's).
        source, target, slot, weight: the edges, in vertices; parallel edges apart.
        gradient: per scalar, gradient of the loss as autograd computed it.
        read: per vertex, whether any operator read it (itself or one of its aliases).
        loss: the vertex of the loss.
        operands: per operator node and slot, the vertices that it read, CONSTANT left out.
    """

    recording: Recording
    offsets: dict[tuple[int, int], int]
    owner: np.ndarray
    output: np.ndarray
    flat: np.ndarray
    root: np.ndarray
    crossing: np.ndarray
    source: np.ndarray
    target: np.ndarray
    slot: np.ndarray
    weight: np.ndarray
    gradient: np.ndarray
    read: np.ndarray
    loss: int
    operands: dict[tuple[int, int], np.ndarray]

    @property
    def size(self) -> int:
        """Number of scalars, aliases included."""
        return len(self.owner)

    @cached_property
    def vertices(self) -> np.ndarray:
        """The scalars that are vertices: leaves and outputs of operators."""
        return np.flatnonzero(self.root == np.arange(self.size))

    @cached_property
    def operators(self) -> list[Node]:
        """Nodes with at least one scalar that is no alias, in the order of the forward pass."""
        hit = {int(o) for o in np.unique(self.owner[self.crossing])}
        return sorted((n for n in self.recording.nodes if n.position in hit), key=lambda n: n.sequence)

    @cached_property
    def out(self) -> list[np.ndarray]:
        """Per vertex, the edges that leave it."""
        order = np.argsort(self.source, kind="stable")
        bounds = np.searchsorted(self.source[order], np.arange(self.size + 1))
        return [order[bounds[i] : bounds[i + 1]] for i in range(self.size)]

    def scalar(self, node: Node, output: int, flat: int) -> int:
        """Number of one scalar of one output."""
        return self.offsets[node.position, output] + flat

    def opposite(self, vertex: int) -> list[int]:
        """What an elementwise operator read to make `vertex`, whatever the weight: the same place in each operand."""
        node = self.recording.nodes[self.owner[vertex]]
        shape = node.shapes[self.output[vertex]]
        at = [
            int(self.root[self.scalar(up, nr, int(self.flat[vertex]))])
            for up, nr in (o for o in node.operands if o is not None)
            if up.shapes[nr] == shape
        ]
        return [v for v in at if v != CONSTANT]

    def leaf_scalars(self, tensor: torch.Tensor) -> np.ndarray | None:
        """The vertices of a leaf, or None where the loss does not depend on it."""
        node = self.recording.leaf_node(tensor)
        if node is None:
            return None
        start = self.offsets[node.position, 0]
        return np.arange(start, start + tensor.numel())

    def index(self, vertex: int) -> tuple[int, ...]:
        """Index of a vertex in the output that it belongs to."""
        shape = self.recording.nodes[self.owner[vertex]].shapes[self.output[vertex]]
        return tuple(int(i) for i in np.unravel_index(self.flat[vertex], shape)) if shape else ()

    def op(self, vertex: int) -> str:
        """Name of the operator that made a vertex."""
        return self.recording.nodes[self.owner[vertex]].name


def build(drawings: list[Recording]) -> ScalarGraph:
    """The scalar graph of the first of several recordings of the same structure with freshly drawn floats."""
    first = drawings[0]
    for other in drawings[1:]:
        assert [n.name for n in other.nodes] == [n.name for n in first.nodes], "drawings differ in structure"
    jacobians = [[jacobian(n) for n in d.nodes] for d in drawings]
    offsets: dict[tuple[int, int], int] = {}
    owner, output, flat = [], [], []
    for node in first.nodes:
        for k, shape in enumerate(node.shapes):
            offsets[node.position, k] = len(owner)
            size = int(np.prod(shape))
            owner += [node.position] * size
            output += [k] * size
            flat += range(size)
    total = len(owner)
    root = np.arange(total)
    crossing = np.zeros(total, dtype=bool)
    read = np.zeros(total, dtype=bool)
    gradient = np.concatenate([g.reshape(-1).to(torch.float64).numpy() for n in first.nodes for g in n.gradients])
    edges: list[tuple[np.ndarray, ...]] = []
    operands: dict[tuple[int, int], np.ndarray] = {}
    for node in first.nodes:  # operands come before users, so roots are known
        if node.leaf is not None:
            if node.twin is not None:
                first_at, at, size = offsets[node.twin.position, 0], offsets[node.position, 0], node.leaf.numel()
                root[at : at + size] = root[first_at : first_at + size]
                gradient[first_at : first_at + size] += gradient[at : at + size]
            continue
        jac = jacobians[0][node.position]
        alias = moved([d.nodes[node.position] for d in drawings], [j[node.position] for j in jacobians])
        for k, flags in enumerate(alias):
            start = offsets[node.position, k]
            crossing[start : start + len(flags)] = ~flags
            root[start : start + len(flags)][flags] = CONSTANT
        below = np.array([0 if o is None else offsets[o[0].position, o[1]] for o in node.operands], dtype=np.int64)
        rows = np.array([offsets[node.position, k] for k in range(len(node.shapes))], dtype=np.int64)
        users = rows[jac.output] + jac.row
        sources = root[below[jac.slot] + jac.column] if len(jac.slot) else jac.slot
        crosses = crossing[users] if len(users) else np.zeros(0, dtype=bool)
        root[users[~crosses]] = sources[~crosses]
        keep = crosses & (sources != CONSTANT)
        edges.append((sources[keep], users[keep], jac.slot[keep], jac.weight[keep]))
        _mark_reads(node, jac, crosses, root, below, read, operands, sources, whole=_all_cross(alias))
    source, target, slot, weight = (np.concatenate(p) if p else np.zeros(0) for p in zip(*edges, strict=True))
    node, k = first.root
    loss = int(root[offsets[node.position, k]])
    return ScalarGraph(
        first, offsets, np.array(owner), np.array(output), np.array(flat), root, crossing,
        source, target, slot, weight, gradient, read, loss, operands,
    )  # fmt: skip


def _all_cross(alias: list[np.ndarray]) -> bool:
    return any(f.size for f in alias) and not any(f.any() for f in alias)


def _mark_reads(
    node: Node,
    jac: Jacobian,
    crosses: np.ndarray,
    root: np.ndarray,
    below: np.ndarray,
    read: np.ndarray,
    operands: dict[tuple[int, int], np.ndarray],
    sources: np.ndarray,
    whole: bool,
) -> None:
    """An operator reads its operands whole; of what an in-place write changes, only the written part."""
    for slot, operand in enumerate(node.operands):
        if operand is None or not (whole or crosses.any()):
            continue
        if whole or (node.written is not None and slot > 0):
            size = int(np.prod(operand[0].shapes[operand[1]]))
            got = root[below[slot] : below[slot] + size]
        elif node.written is not None:
            got = root[below[slot] + node.written[1]]
        else:
            got = sources[crosses & (jac.slot == slot)]
        got = np.unique(got[got != CONSTANT])
        read[got] = True
        operands[node.position, slot] = got
