"""Sums and other reductions into places that indices name: scatter_add, index_add, accumulating index_put,
scatter_reduce, index_reduce, segment_reduce, fold, embedding bags.

Every scalar of what is added has one consumer (each copy of a broadcast one its own), found by letting PyTorch's own
indexing work on the numbers of the output's scalars, at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from gradtrace.tracer.kernels.layout import WEIGHTS
from gradtrace.tracer.movement import call
from gradtrace.tracer.rules.base import Context, Entries, Source, Use
from gradtrace.tracer.rules.probe import with_the_rest
from gradtrace.tracer.walk import Node, as_signed

Ids = Sequence[torch.Tensor | None]


def _numbers(node: Node) -> torch.Tensor:
    return torch.arange(node.shapes[0].numel()).view(node.shapes[0])


def _pairs(ids: torch.Tensor, outs: torch.Tensor, weights: torch.Tensor | float, node: Node) -> Entries:
    """Edges from ids to outs of one shape, and the rest of the operand."""
    dtype = node.dtypes[0]
    weight = torch.as_tensor(weights, dtype=dtype).expand(outs.shape).reshape(-1)
    return ids.reshape(-1).to(torch.int32), outs.reshape(-1).to(torch.int32), weight


def _source(node: Node, ids: Ids) -> torch.Tensor:
    found = ids[1]
    assert found is not None  # listed only where it takes a gradient
    return found


def _scatter_add(node: Node, ids: Ids) -> Entries:
    source, index = _source(node, ids), node.saved("index").cpu()
    used = source[tuple(slice(0, n) for n in index.shape)] if index.dim() else source.reshape(index.shape)
    outs = _numbers(node).gather(node.saved_int("dim"), index) if node.shapes[0] else _numbers(node).expand(index.shape)
    return with_the_rest(source, [_pairs(used, outs, 1.0, node)], node.dtypes[0])


def _index_add(node: Node, ids: Ids) -> Entries:
    source, index = _source(node, ids), node.saved("index").cpu().reshape(-1)
    numbers = _numbers(node)
    outs = numbers.index_select(node.saved_int("dim"), index) if numbers.dim() else numbers.expand(index.shape)
    return with_the_rest(source, [_pairs(source, outs, float(node.saved("alpha")), node)], node.dtypes[0])


def _index_put(node: Node, ids: Ids) -> Entries:
    source = _source(node, ids)
    outs = torch.ops.aten.index(_numbers(node), [None if i is None else i.cpu() for i in node.saved("indices")])
    return with_the_rest(source, [_pairs(source.expand(outs.shape), outs, 1.0, node)], node.dtypes[0])


def _put(node: Node, ids: Ids) -> Entries:
    source, index = _source(node, ids), node.saved("index").cpu()
    return with_the_rest(source, [_pairs(source, _numbers(node).take(index), 1.0, node)], node.dtypes[0])


SUMS: dict[str, Callable[[Node, Ids], Entries]] = {
    "ScatterAdd": _scatter_add,
    "IndexAdd": _index_add,
    "IndexPut": _index_put,
    "IndexPutImpl": _index_put,
    "Put": _put,
}
"""Edges of what is added (slot 1), by operator."""


def sums(context: Context) -> list[Use]:
    """Uses of what is added to, scalar by scalar, and of what is added."""
    node, (base, added) = context.node, context.ids
    uses = []
    if base is not None:
        uses.append(Use(0, 0, base.expand(node.shapes[0]), outs=context.out_index()))
    if added is not None:
        uses.append(Use(1, 0, added, listed=SUMS[node.op]))
    return uses


def _scattered_to(node: Node, shape: torch.Size) -> torch.Tensor:
    index = node.saved("index").cpu()
    numbers = _numbers(node)
    # Autograd itself wants an index for each scalar of the source.
    return numbers.gather(node.saved_int("dim"), index) if node.shapes[0] else numbers.expand(index.shape)


def _indexed_to(node: Node, shape: torch.Size) -> torch.Tensor:
    index, numbers = node.saved("index").cpu().reshape(-1), _numbers(node)
    return numbers.index_select(node.saved_int("dim"), index) if numbers.dim() else numbers.expand(shape)


def _segment_of(node: Node, shape: torch.Size) -> torch.Tensor:
    """Segments follow each other along one axis, told by lengths or by where each begins and the last ends."""
    axis, offsets = node.saved_int("axis"), node.saved("offsets")
    if offsets is None:
        ends = node.saved("lengths").cpu().cumsum(-1)
        first = torch.zeros_like(ends[..., :1])
    else:
        first, ends = offsets.cpu()[..., :1], offsets.cpu()[..., 1:]
    places = torch.arange(shape[axis]).expand(*ends.shape[:-1], -1).contiguous()
    segment = torch.searchsorted(ends.contiguous(), places, right=True)
    read = (places >= first) & (segment < ends.shape[-1])
    later = (...,) + (None,) * (len(shape) - axis - 1)
    outs = _numbers(node).gather(axis, segment.clamp(max=ends.shape[-1] - 1)[later].expand(shape))
    return torch.where(read[later], outs, -1)


REDUCED: dict[str, Callable[[Node, torch.Size], torch.Tensor]] = {
    "ScatterReduce": _scattered_to,
    "IndexReduce": _indexed_to,
    "SegmentReduce": _segment_of,
}
"""(node, shape of what is reduced: its last operand) -> flat output index that reads each scalar, or -1."""


def reduced(context: Context) -> list[Use]:
    """Uses of what is reduced, and of what it is reduced into (not of segment_reduce): each scalar has one consumer.

    So the node's own backward, called with ones, has the partials: of sums, means, products, minima and maxima alike.
    """
    base, added = (None, *context.ids) if context.node.op == "SegmentReduce" else context.ids
    slot = len(context.ids) - 1
    uses = []
    if base is not None:
        use = Use(0, 0, base, outs=context.out_index())
        use.sources[WEIGHTS] = Source("ones", 0, count=base.numel())  # as those of the rest are, so that ties stay ties
        uses.append(use)
    if added is not None:
        uses.append(Use(slot, 0, added, listed=_reduced))
    return uses


def _reduced(node: Node, ids: Ids) -> Entries:
    added = ids[-1]
    assert added is not None  # listed only where it takes a gradient
    outs = REDUCED[node.op](node, added.shape).reshape(-1)
    partials = call(node, torch.ones(node.shapes[0], dtype=node.dtypes[0]))[len(ids) - 1]
    weights = torch.zeros(outs.shape) if partials is None else partials.detach().reshape(-1)
    read = outs >= 0
    return with_the_rest(added, [_pairs(added.reshape(-1)[read], outs[read], weights[read], node)], node.dtypes[0])


def fold(context: Context) -> list[Use]:
    """Blocks [N, C·kernel, L] summed into an image [N, C, H, W]: each scalar goes where F.unfold would find it."""
    node, ids = context.node, context.ids[0]
    assert ids is not None  # one operand
    shape = node.shapes[0]
    image = torch.arange(1.0, shape.numel() + 1, dtype=torch.float64).view(-1, *shape[-3:])  # 0 is padding
    kernel, dilation, padding, stride = (tuple(as_signed(v) for v in node.saved(name)) for name in FOLD_ATTRIBUTES)
    outs = F.unfold(image, kernel, dilation, padding, stride).reshape(-1).to(torch.int32) - 1
    read = (outs >= 0).nonzero().reshape(-1)
    return [Use(0, 0, ids.reshape(-1)[read], outs=outs[read]), *context.unused(0, read)]


FOLD_ATTRIBUTES = ("kernel_size", "dilation", "padding", "stride")


def embedding(context: Context) -> list[Use]:
    """An embedding whose gradients are scaled by frequency, and so is no movement."""
    ids = context.ids[0]
    assert ids is not None  # the table is the only operand
    return [Use(0, 0, ids, listed=_by_frequency)]


def _by_frequency(node: Node, ids: Ids) -> Entries:
    table, indices = ids[0], node.saved("indices").detach().cpu().reshape(-1)
    assert table is not None  # listed only where it takes a gradient
    weight = 1.0 / torch.bincount(indices, minlength=table.shape[0])[indices].double()
    weight[indices == node.saved_int("padding_idx")] = 0
    outs = torch.arange(node.shapes[0].numel()).view(indices.numel(), -1)
    return with_the_rest(table, [_pairs(table[indices], outs, weight[:, None], node)], node.dtypes[0])


def bag(context: Context) -> list[Use] | None:
    """Sums and means of bags of rows, of maxima those rows that won; None for what is left to probing."""
    node = context.node
    if node.saved("scale_grad_by_freq") or node.saved("sparse"):
        return None
    table, weights = (*context.ids, None)[:2]
    uses = []
    if table is not None:
        uses.append(Use(0, 0, table, listed=_largest if node.saved("mode") == 2 else _bagged))
    if weights is not None:
        uses.append(Use(1, 0, weights, listed=_sample_weights))
    return uses


def _read(node: Node) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every index in a bag that is no padding: its place among the indices, its row, its bag."""
    indices, offsets = node.saved("indices").detach().cpu().reshape(-1), node.saved("offsets").detach().cpu()
    bags = torch.bucketize(torch.arange(indices.numel()), offsets, right=True) - 1
    kept = (indices != node.saved_int("padding_idx")).nonzero().reshape(-1)
    return kept, indices[kept], bags[kept]


def _bagged(node: Node, ids: Ids) -> Entries:
    table = ids[0]
    assert table is not None  # listed only where it takes a gradient
    kept, rows, bags = _read(node)
    weight = torch.ones(rows.shape, dtype=torch.float64)
    if node.saved("mode") == 1:
        weight = 1.0 / torch.bincount(bags, minlength=1)[bags].double()
    elif node.saved("per_sample_weights") is not None:
        weight = node.saved("per_sample_weights").detach().cpu().reshape(-1)[kept].double()
    outs = _numbers(node)[bags]
    return with_the_rest(table, [_pairs(table[rows], outs, weight[:, None], node)], node.dtypes[0])


def _largest(node: Node, ids: Ids) -> Entries:
    table = ids[0]
    assert table is not None  # listed only where it takes a gradient
    winners = node.saved("result3").detach().cpu()  # rows by bag and column; those of empty bags count for nothing
    filled = (node.saved("result2").detach().cpu() > 0)[:, None].expand(winners.shape)
    picked = table.gather(0, winners.clamp(min=0))[filled]
    return with_the_rest(table, [_pairs(picked, _numbers(node)[filled], 1.0, node)], node.dtypes[0])


def _sample_weights(node: Node, ids: Ids) -> Entries:
    weights = ids[1]
    assert weights is not None  # listed only where it takes a gradient
    kept, rows, bags = _read(node)
    table = node.saved("weight").detach().cpu()
    outs = _numbers(node)[bags]
    own = weights.reshape(-1)[kept][:, None].expand(outs.shape)
    return with_the_rest(weights, [_pairs(own, outs, table[rows], node)], node.dtypes[0])
