"""The scalar graph itself, for small models: every scalar a vertex, every partial an edge, and the winner of every vertex.

The edges are read off the operators' own backward with one-hot gradients (`rules.probe`), one call for each output scalar,
whether an operator has a closed rule or not. Movement is gone: a moved scalar is the vertex that it copies. Of blocked
components the scalars stand alone, with gradient 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from gradtrace.tracer.blocking import masked
from gradtrace.tracer.capture import Captured
from gradtrace.tracer.errors import BudgetError, TraceError
from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.plan import Plan
from gradtrace.tracer.rules import write_entries
from gradtrace.tracer.rules.inplace import COPY_SLICES
from gradtrace.tracer.rules.probe import entries
from gradtrace.tracer.scalargraph import GRANULARITIES, POINTERS, ScalarGraph
from gradtrace.tracer.walk import Skim, node_at


@dataclass(frozen=True, eq=False)
class ScalarEdges:
    """Edges of a recording, taken before its backward. Columns as in `ScalarGraph`, sorted by source, target and slot.

    Attributes:
        own: bool, per scalar of the plan, whether it is a vertex: of what an in-place write returns, the scalars outside the
            written part only rename others.
    """

    own: np.ndarray
    source: np.ndarray
    target: np.ndarray
    slot: np.ndarray
    edge: np.ndarray
    weight: np.ndarray


def check_size(plan: Plan, budget: int) -> None:
    """Refuse a graph that is too large to be spelt out, before any of it is.

    Raises:
        BudgetError: it has more scalar vertices and edges than `budget`.
    """
    rows = plan.arrays.uses
    vertices = int(plan.arrays.base[-1] + plan.arrays.size[-1])
    # Exact for contractions and one-to-one operands; of dense Jacobians it counts the diagonal alone.
    edges = int((rows[:, L.D0] * rows[:, L.D1] * rows[:, L.D2] * np.maximum(rows[:, L.K], 1)).sum())
    if vertices + edges > budget:
        raise BudgetError(_too_large(f"{vertices:,} scalar vertices and at least {edges:,} scalar edges", budget))


def scalar_edges(plan: Plan, skimmed: Skim, captured: Captured, budget: int) -> ScalarEdges:
    """Read all scalar edges of a recording; to be called before its backward.

    Raises:
        BudgetError: there are more vertices and edges than `budget`.
    """
    check_size(plan, budget)
    ids = captured.ids or plan.ids
    vertices = int(plan.arrays.base[-1] + plan.arrays.size[-1])
    operator_edge = {
        (e.source, e.target, e.slot): e.idx
        for e in plan.graph.edges
        if plan.graph.vertices[e.source].kind != "constant"
    }
    vertex_of = np.array(plan.layout.vertex_of_tensor, np.int64)
    place_of = {place: at for at, place in enumerate(plan.tensors)}
    columns: list[tuple[np.ndarray, ...]] = []
    total = vertices
    for index in plan.operators:
        node = node_at(skimmed, plan.order[index], plan.position)
        operands = [None if i is None else ids[i] for i in node.inputs]
        for output in range(len(node.shapes)):
            tensor = place_of.get((index, output))
            if tensor is None:
                continue
            write = node.op == COPY_SLICES
            found = write_entries(node, operands) if write else entries(node, operands, output, budget - total)
            for slot, (own, outs, weights) in found.items():
                source, weight = own.numpy().astype(np.int64), weights.to(torch.float64).numpy()
                keep = (weight != 0) & (source >= 0)
                source, weight = source[keep], weight[keep]
                target = int(plan.arrays.base[tensor]) + outs.numpy().astype(np.int64)[keep]
                owner = vertex_of[np.searchsorted(plan.arrays.base, source, side="right") - 1]
                made = np.array([operator_edge[int(v), int(vertex_of[tensor]), slot] for v in owner], np.int64)
                columns.append((source, target, np.full(len(source), slot, np.int64), made, weight))
                total += len(source)
            if total > budget:
                raise BudgetError(_too_large(f"more than {total:,} scalar vertices and edges", budget))
    parts = [np.concatenate(column) for column in zip(*columns, strict=True)]
    shut = _blocked(captured, vertices)
    open_ = ~(shut[parts[0]] | shut[parts[1]])
    order = np.lexsort((parts[2], parts[1], parts[0]))
    order = order[open_[order]]
    return ScalarEdges(_own(plan, ids), *(part[order] for part in parts))


def _own(plan: Plan, ids: Mapping[tuple[int, int], torch.Tensor]) -> np.ndarray:
    """Which scalars of the plan's tensors are vertices, and no other names of vertices."""
    base, size = plan.arrays.base, plan.arrays.size
    own = np.ones(int(base[-1] + size[-1]), np.bool_)
    for tensor in range(plan.arrays.leaves, len(base)):
        start, stop = int(base[tensor]), int(base[tensor] + size[tensor])
        own[start:stop] = ids[plan.tensors[tensor]].reshape(-1).numpy() == np.arange(start, stop)
    return own


def _blocked(captured: Captured, vertices: int) -> np.ndarray:
    """Which scalars of the plan's tensors no gradient passes through."""
    shut = np.zeros(vertices, np.bool_)
    plan = captured.plan
    for tensor, blocks in captured.blocked.items():
        open_ = masked(torch.ones(plan.shapes[tensor]), plan, tensor, blocks)
        start = int(plan.arrays.base[tensor])
        shut[start : start + int(plan.arrays.size[tensor])] = open_.reshape(-1).numpy() == 0
    return shut


def scalar_graph(edges: ScalarEdges, captured: Captured, modes: Sequence[str], scale: float) -> ScalarGraph:
    """The scalar graph of a traced step, with the pointers of the modes that were traced."""
    plan = captured.plan
    base, size = plan.arrays.base, plan.arrays.size
    tensor = np.repeat(np.arange(len(base)), size)
    gradient = np.concatenate([_gradients(captured, t, int(size[t])) for t in range(len(base))]) / scale
    index = np.arange(len(tensor)) - base[tensor]
    components: list[str | None] = []
    for t, (numbers, inner) in enumerate(plan.layout.parts):
        blocks = (np.arange(size[t]) // max(inner, 1)) % len(numbers)
        components += [plan.layout.paths[numbers[b]] if numbers[b] >= 0 else None for b in blocks]
    edges, kept = _renumbered(edges), np.flatnonzero(edges.own)
    gradient, count = gradient[kept], len(kept)
    loss = int(np.searchsorted(kept, int(plan.arrays.loss)))
    dtype = np.float64 if captured.doubled else np.float32
    pointers = {
        mode: _greedy(edges, gradient * scale, dtype) if mode == "greedy" else _maxprod(edges, count, loss)
        for mode in modes
        if mode in POINTERS
    }
    return ScalarGraph(
        np.array(plan.layout.vertex_of_tensor, np.int64)[tensor][kept],
        np.array([output for _, output in plan.tensors], np.int64)[tensor][kept],
        index[kept],
        tuple(components[at] for at in kept.tolist()),
        gradient,
        edges.source,
        edges.target,
        edges.slot,
        edges.edge,
        edges.weight,
        pointers,
        loss,
    )


def _renumbered(edges: ScalarEdges) -> ScalarEdges:
    """The same edges with vertices numbered without gaps; their order stays."""
    number = np.cumsum(edges.own) - 1
    return replace(edges, source=number[edges.source], target=number[edges.target])


def _gradients(captured: Captured, tensor: int, size: int) -> np.ndarray:
    found = captured.outputs[tensor]
    if found is None:
        return np.zeros(size)
    return found.detach().to("cpu", torch.float64).expand(captured.plan.shapes[tensor]).reshape(-1).numpy()


def _greedy(edges: ScalarEdges, gradient: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """The edge with the largest |w·g| out of each vertex, on values rounded as the step's own."""
    with np.errstate(over="ignore", invalid="ignore"):
        value = np.abs(edges.weight.astype(dtype) * gradient[edges.target].astype(dtype))
    return _winners(edges, np.where(np.isfinite(value), value, 0).astype(np.float64), len(gradient))


def _maxprod(edges: ScalarEdges, vertices: int, loss: int) -> np.ndarray:
    """The edge with the largest |w|·t out of each vertex, in logarithms, so that nothing underflows."""
    with np.errstate(divide="ignore"):
        weight = np.where(np.isfinite(edges.weight), np.log(np.abs(edges.weight)), -np.inf)
    longest = np.full(vertices, -np.inf)
    longest[loss] = 0.0
    starts = np.searchsorted(edges.source, np.arange(vertices + 1))
    chosen = np.full(vertices, -1, np.int64)
    for v in range(vertices - 1, -1, -1):  # an edge leads to a greater number
        mine = slice(starts[v], starts[v + 1])
        if v == loss or mine.start == mine.stop:
            continue
        value = weight[mine] + longest[edges.target[mine]]
        at = int(value.argmax())  # the first of equals: edges stand by their target
        if value[at] > -np.inf:
            longest[v] = value[at]
            chosen[v] = mine.start + at
    return chosen


def _winners(edges: ScalarEdges, value: np.ndarray, vertices: int) -> np.ndarray:
    """Per vertex the edge of greatest value, the first of equals; -1 where all are 0."""
    order = np.lexsort((np.arange(len(value)), -value, edges.source))
    first = np.searchsorted(edges.source[order], np.arange(vertices))
    chosen = np.full(vertices, -1, np.int64)
    for v in range(vertices):
        at = first[v]
        if at < len(order) and edges.source[order[at]] == v and value[order[at]] > 0:
            chosen[v] = order[at]
    return chosen


def _too_large(what: str, budget: int) -> str:
    return (
        f"The scalar graph of this step has {what}, beyond the budget of {budget:,} vertices and edges. Trace a smaller batch, "
        "sequence or model at scalar granularity, raise graph_budget, or stay with granularity='operator', which has no such "
        "limit."
    )


def check_granularity(granularity: str) -> None:
    """Refuse what is no granularity.

    Raises:
        TraceError: with those there are.
    """
    if granularity not in GRANULARITIES:
        raise TraceError(f"{granularity!r} is no granularity; there are: {', '.join(GRANULARITIES)}.")
