"""Data movement: operators that only rename scalars.

Each rule applies the operator to a tensor of scalar ids instead of values, so that shapes, broadcasting and strides are
PyTorch's own. An id of -1 is a constant. Views of the id tensors stay views: a chain of transposes and slices costs no
memory, and the planner reads offset and strides off the result.

`MOVEMENT` maps an operator name to its rule: (node, ids of each operand or None for constants) -> ids of each output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from gradtrace.tracer.errors import UntraceableOperatorError
from gradtrace.tracer.walk import Node, as_signed

Ids = torch.Tensor
Rule = Callable[[Node, Sequence[Ids | None]], list[Ids]]

MOVEMENT: dict[str, Rule] = {}
ATTRIBUTES: dict[str, tuple[str, ...]] = {}
"""Saved integers that decide where the scalars go: part of a plan's key."""
BY_DATA: set[str] = set()
"""Operators whose integer or boolean *tensors* decide it: worked out again at every step."""


def _rule(*names: str, saved: tuple[str, ...] = (), by_data: bool = False) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        for name in names:
            MOVEMENT[name] = rule
            ATTRIBUTES[name] = saved
            if by_data:
                BY_DATA.add(name)
        return rule

    return register


def _first(ids: Sequence[Ids | None]) -> Ids:
    found = next(i for i in ids if i is not None)
    return found


@_rule("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Reshape", "Alias", "Clone", "ToCopy", "Contiguous",
       "LiftFresh", "ViewAs", "Flatten", "Unflatten", "Lift")  # fmt: skip
def _reshape(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).reshape(node.shapes[0])]


@_rule("CopyBackwards")
def _copy(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    source = ids[1]
    return [_constants(node.shapes[0]) if source is None else source.expand(node.shapes[0])]


@_rule("Fill", "Zero")
def _fill(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    """Every scalar becomes one value: a constant, or the scalar given as the last operand."""
    value = ids[1] if len(ids) > 1 else None
    return [_constants(node.shapes[0]) if value is None else value.reshape(()).expand(node.shapes[0])]


@_rule("T")
def _t(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).t()]


@_rule("Transpose", saved=("dim0", "dim1"))
def _transpose(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).transpose(node.saved_int("dim0"), node.saved_int("dim1"))]


@_rule("Permute", saved=("dims",))
def _permute(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).permute([as_signed(d) for d in node.saved("dims")])]


@_rule("Expand")
def _expand(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).expand(node.shapes[0])]


@_rule("Repeat", saved=("repeats",))
def _repeat(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).repeat(tuple(node.saved("repeats")))]


@_rule("Flip", saved=("dims",))
def _flip(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).flip([as_signed(d) for d in node.saved("dims")])]


@_rule("Roll", saved=("shifts", "dims"))
def _roll(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    shifts = [as_signed(s) for s in node.saved("shifts")]
    return [_first(ids).roll(shifts, [as_signed(d) for d in node.saved("dims")])]


@_rule("ConstantPadNd", saved=("pad",))
def _pad(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [F.pad(_first(ids), [as_signed(p) for p in node.saved("pad")], value=-1)]


@_rule("ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D", saved=("padding",))
def _reflect(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_through_float(lambda x: F.pad(x, _ints(node.saved("padding")), mode="reflect"), _first(ids))]


@_rule("ReplicationPad1D", "ReplicationPad2D", "ReplicationPad3D", saved=("padding",))
def _replicate(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_through_float(lambda x: F.pad(x, _ints(node.saved("padding")), mode="replicate"), _first(ids))]


@_rule("Diagonal", saved=("offset", "dim1", "dim2"))
def _diagonal(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).diagonal(*(node.saved_int(n) for n in ("offset", "dim1", "dim2")))]


@_rule("DiagEmbed", saved=("offset", "dim1", "dim2"))
def _diag_embed(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    args = [node.saved_int(n) for n in ("offset", "dim1", "dim2")]
    return [torch.diag_embed(_first(ids) + 1, *args) - 1]


@_rule("Tril", saved=("diagonal",))
def _tril(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [(_first(ids) + 1).tril(node.saved_int("diagonal")) - 1]


@_rule("Triu", saved=("diagonal",))
def _triu(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [(_first(ids) + 1).triu(node.saved_int("diagonal")) - 1]


@_rule("Stack", saved=("dim",))
def _stack(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    like = _first(ids)
    return [torch.stack([_constants(like.shape) if i is None else i for i in ids], node.saved_int("dim"))]


@_rule("Cat", saved=("dim",))
def _cat(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    dim = node.saved_int("dim")
    missing = [at for at, i in enumerate(ids) if i is None]
    if len(missing) > 1:
        return decode(node, ids)
    parts = list(ids)
    if missing:
        shape = list(node.shapes[0])
        shape[dim] -= sum(i.shape[dim] for i in ids if i is not None and i.dim() == len(shape))
        parts[missing[0]] = _constants(torch.Size(shape))
    return [torch.cat([i for i in parts if i is not None], dim)]


@_rule("Split", "UnsafeSplit", saved=("split_size", "dim"))
def _split(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return list(_first(ids).split(node.saved_int("split_size"), node.saved_int("dim")))


@_rule("SplitWithSizes", "UnsafeSplitWithSizes", saved=("split_sizes", "dim"))
def _split_sizes(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return list(_first(ids).split(_ints(node.saved("split_sizes")), node.saved_int("dim")))


@_rule("Unbind", saved=("dim",))
def _unbind(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return list(_first(ids).unbind(node.saved_int("dim")))


@_rule("Select", saved=("dim", "index"))
def _select(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).select(node.saved_int("dim"), node.saved_int("index"))]


@_rule("Slice", saved=("dim", "start", "end", "step"))
def _slice(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    dim, start, end, step = (
        None if node.saved(n) is None else node.saved_int(n) for n in ("dim", "start", "end", "step")
    )
    return [torch.ops.aten.slice(_first(ids), dim or 0, start, end, 1 if step is None else step)]


@_rule("Unfold", saved=("dimension", "size", "step"))
def _unfold(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).unfold(*(node.saved_int(n) for n in ("dimension", "size", "step")))]


@_rule("Im2Col", saved=("kernel_size", "dilation", "padding", "stride"))
def _im2col(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    kernel, dilation, padding, stride = (
        tuple(_ints(node.saved(n))) for n in ("kernel_size", "dilation", "padding", "stride")
    )
    return [_through_float(lambda x: F.unfold(x + 1, kernel, dilation, padding, stride) - 1, _first(ids))]


_SCALES = ("output_size", "scales", "scales_d", "scales_h", "scales_w")


@_rule("UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D", saved=_SCALES)
def _nearest(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_upsampled(node, "upsample_nearest", _first(ids))]


@_rule("UpsampleNearestExact1D", "UpsampleNearestExact2D", "UpsampleNearestExact3D", saved=_SCALES)
def _nearest_exact(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_upsampled(node, "_upsample_nearest_exact", _first(ids))]


def _upsampled(node: Node, name: str, ids: Ids) -> Ids:
    """By PyTorch's own kernel, with the scales that it was given: sizes alone do not tell which neighbour is nearest."""
    dims = len(node.shapes[0]) - 2
    kernel = getattr(torch.ops.aten, f"{name}{dims}d").default
    scales = [node.saved(n) for n in (("scales",) if dims == 1 else ("scales_d", "scales_h", "scales_w")[3 - dims :])]
    return _through_float(lambda x: kernel(x, _ints(node.saved("output_size")), *scales), ids)


@_rule("Gather", saved=("dim",), by_data=True)
def _gather(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).gather(node.saved_int("dim"), node.saved("index").cpu())]


@_rule("IndexSelect", saved=("dim",), by_data=True)
def _index_select(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).index_select(node.saved_int("dim"), node.saved("index").cpu())]


@_rule("Take", by_data=True)
def _take(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).take(node.saved("index").cpu())]


@_rule("Index", by_data=True)
def _index(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    indices = tuple(slice(None) if i is None else i.cpu() for i in node.saved("indices"))
    return [torch.ops.aten.index(_first(ids), [None if isinstance(i, slice) else i for i in indices])]


@_rule("MaskedSelect", by_data=True)
def _masked_select(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).masked_select(node.saved("mask").cpu())]


@_rule("Embedding", saved=("padding_idx", "scale_grad_by_freq"), by_data=True)
def _embedding(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    indices = node.saved("indices").cpu()
    out = F.embedding(indices, _first(ids)) if _first(ids).is_floating_point() else _first(ids)[indices]
    padding = node.saved_int("padding_idx")
    if padding >= 0:
        out = out.masked_fill((indices == padding)[..., None], -1)
    return [out]


@_rule("Where", by_data=True)
def _where(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    shape = node.shapes[0]
    a, b = (_constants(shape) if i is None else i.expand(shape) for i in ids)
    return [torch.where(node.saved("condition").cpu(), a, b)]


@_rule("MaskedFill", by_data=True)
def _masked_fill(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    base = ids[0]
    shape = node.shapes[0]
    value = ids[1] if len(ids) > 1 else None
    a = _constants(shape) if base is None else base.expand(shape)
    b = _constants(shape) if value is None else value.expand(shape)
    return [torch.where(node.saved("mask").cpu(), b, a)]


def _whole(node: Node, ids: Ids | None) -> Ids:
    """The operand that is written into, in the output's shape."""
    return _constants(node.shapes[0]) if ids is None else ids.expand(node.shapes[0])


@_rule("Scatter", saved=("dim",), by_data=True)
def _scatter(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    index = node.saved("index").cpu()
    source = ids[1] if len(ids) > 1 else None
    written = torch.full(index.shape, -1, dtype=torch.int32) if source is None else source.to(torch.int32)
    return [_whole(node, ids[0]).to(torch.int32).scatter(node.saved_int("dim"), index, written)]


@_rule("IndexFill", saved=("dim",), by_data=True)
def _index_fill(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    value = int(ids[1].reshape(())) if len(ids) > 1 and ids[1] is not None else -1
    return [_whole(node, ids[0]).index_fill(node.saved_int("dim"), node.saved("index").cpu(), value)]


@_rule("IndexCopy", saved=("dim",), by_data=True)
def _index_copy(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    dim, index = node.saved_int("dim"), node.saved("index").cpu().reshape(-1)
    shape = list(node.shapes[0])
    if shape:
        shape[dim] = index.numel()
    source = torch.full(shape, -1, dtype=torch.int32) if ids[1] is None else ids[1].to(torch.int32).reshape(shape)
    return [_whole(node, ids[0]).to(torch.int32).index_copy(dim, index, source)]


@_rule("IndexPut", "IndexPutImpl", saved=("accumulate",), by_data=True)
def _index_put(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    indices = [None if i is None else i.cpu() for i in node.saved("indices")]
    values = torch.full((), -1, dtype=torch.int32) if ids[1] is None else ids[1].to(torch.int32)
    return [torch.ops.aten.index_put(_whole(node, ids[0]).to(torch.int32), indices, values)]


@_rule("Put", saved=("accumulate",), by_data=True)
def _put(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    index = node.saved("index").cpu()
    values = torch.full(index.shape, -1, dtype=torch.int32) if ids[1] is None else ids[1].to(torch.int32)
    return [_whole(node, ids[0]).to(torch.int32).put(index, values.reshape(index.shape))]


@_rule("MaskedScatter", by_data=True)
def _masked_scatter(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    mask = node.saved("mask").cpu()
    count = int(mask.expand(node.shapes[0]).sum())
    source = torch.full((count,), -1, dtype=torch.int32) if ids[1] is None else ids[1].to(torch.int32)
    return [_whole(node, ids[0]).to(torch.int32).masked_scatter(mask, source)]


@_rule("UnsafeMaskedIndex", by_data=True)
def _unsafe_masked_index(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    mask = node.saved("mask").cpu()
    indices = [None if i is None else i.cpu() for i in node.saved("indices")]
    return [torch.ops.aten._unsafe_masked_index(_first(ids).to(torch.int32), mask, indices, -1)]


@_rule("NarrowCopy", saved=("dim", "start", "length"))
def _narrow_copy(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    return [_first(ids).narrow(*(node.saved_int(n) for n in ("dim", "start", "length")))]


@_rule("LuUnpack")
def _lu_unpack(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    """The unit lower and the upper triangle of a factorisation kept in one matrix."""
    packed = _first(ids)
    size = min(packed.shape[-2:])
    return [(packed + 1).tril(-1)[..., :size] - 1, (packed + 1).triu()[..., :size, :] - 1]


@_rule("PackPaddedSequence", "MaxUnpool2D", "MaxUnpool3D", by_data=True)
@_rule("BlockDiag")
@_rule("Rot90", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "SliceScatter", "SelectScatter", "DiagonalScatter",
       saved=("dims", "k", "upscale_factor", "downscale_factor", "groups", "dim", "start", "end", "step", "index",
              "offset", "dim1", "dim2"))  # fmt: skip
def decode(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    """Where scalars go, read off the node's own backward with numbered gradients.

    Only for movement in which every input scalar lands in one place at most and no place is hit twice.

    Raises:
        UntraceableOperatorError: two scalars land in one place.
    """
    shape, dtype = node.shapes[0], node.dtypes[0]
    count = shape.numel()
    numbered = torch.arange(1, count + 1, dtype=torch.float64).reshape(shape)
    base = 2**11 if dtype in (torch.float16,) else 2**8 if dtype == torch.bfloat16 else 2**24
    landed: list[torch.Tensor | None] = [None] * len(ids)
    factor = 1
    while factor <= count:
        digits = torch.floor(numbered / factor) % base
        grads = call(node, digits.to(dtype))
        for at, grad in enumerate(grads[: len(ids)]):
            if ids[at] is not None and grad is not None:
                part = grad.to("cpu", torch.float64) * factor
                before = landed[at]
                landed[at] = part if before is None else before + part
        factor *= base
    out = _constants(torch.Size([count])).contiguous()
    for operand, position in zip(ids, landed, strict=True):
        if operand is None or position is None:
            continue
        place = position.reshape(-1).long()
        arrives = place > 0
        if bool((place > count).any()) or place[arrives].unique().numel() != int(arrives.sum()):
            raise UntraceableOperatorError(
                f"{node.op} (output of shape {tuple(shape)}) puts several scalars into one place, or one into several. "
                "Write it with scatter_add or index_add, which say what becomes of them.",
                node.op,
                tuple(shape),
            )
        out[place[arrives] - 1] = operand.reshape(-1)[arrives].to(out.dtype)
    return [out.reshape(shape)]


@_rule("AsStrided", saved=("size", "stride", "storage_offset"))
def _as_strided(node: Node, ids: Sequence[Ids | None]) -> list[Ids]:
    """By strides over the base as it lies in memory, which the node does not tell: contiguous, unless its backward objects."""
    base = _first(ids)
    offset = node.saved("storage_offset")
    size, stride = _ints(node.saved("size")), _ints(node.saved("stride"))
    if (offset or 0) + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) < base.numel() and 0 not in size:
        places = torch.arange(base.numel()).as_strided(size, stride, offset or 0).reshape(-1)
        gradient = torch.sin(torch.arange(1.0, places.numel() + 1, dtype=torch.float64))
        expected = torch.zeros(base.numel(), dtype=torch.float64).index_add_(0, places, gradient)
        got = call(node, gradient.reshape(size).to(node.dtypes[0]))[0]
        if got is not None and torch.allclose(got.double().reshape(-1), expected, atol=1e-2):
            return [base.reshape(-1)[places].view(size)]
    return decode(node, ids)


def is_movement(node: Node) -> bool:
    """Whether the node only renames scalars. (Embeddings may scale their gradients by frequency, index_put may add.)"""
    if node.op not in MOVEMENT or isinstance(node.fn, torch.autograd.function.BackwardCFunction):
        return False  # a user's own function may have any name
    return not (node.saved("scale_grad_by_freq") or node.saved("accumulate"))


def call(node: Node, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    """The node's own backward, called by hand: gradients of its outputs in, of its operands out.

    They come and go on the CPU, where tracing is done, whatever device the node works on.
    """
    device = node.device
    with torch.no_grad():
        function = node.fn.apply if not callable(node.fn) else node.fn
        result = function(*(None if g is None else g.to(device) for g in gradients))
    made = result if isinstance(result, tuple) else (result,)
    return made if device.type == "cpu" else tuple(None if part is None else part.cpu() for part in made)


def _constants(shape: torch.Size) -> Ids:
    return torch.full((), -1, dtype=torch.int32).expand(shape)


def _ints(values: Sequence[int]) -> list[int]:
    return [as_signed(v) for v in values]


def _through_float(apply: Callable[[torch.Tensor], torch.Tensor], ids: Ids) -> Ids:
    """For operators without integer kernels: ids below 2**53 survive float64."""
    return apply(ids.double()).round().to(torch.int32)
