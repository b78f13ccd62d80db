"""Average pooling, linear and cubic interpolation: every output scalar is a weighted sum of a window, known before.

Windows are products of one range a dimension; each dimension gives a list of (input, output, weight).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from gradtrace.tracer.kernels.layout import WEIGHTS
from gradtrace.tracer.rules.base import Context, Source, Use
from gradtrace.tracer.walk import Node, as_signed

Windows = list[list[tuple[int, int, float]]]
"""Per dimension and output position: first input position, end, and how many positions the mean counts."""


def _strided(node: Node, sizes: tuple[int, ...], outputs: tuple[int, ...]) -> Windows:
    kernel, stride, padding = ([as_signed(v) for v in node.saved(n)] for n in ("kernel_size", "stride", "padding"))
    kernel, stride, padding = (_spread(v, len(sizes)) for v in (kernel, stride or kernel, padding))
    windows = []
    for dim, (size, count) in enumerate(zip(sizes, outputs, strict=True)):
        rows = []
        for y in range(count):
            start = y * stride[dim] - padding[dim]
            end = min(start + kernel[dim], size + padding[dim])
            first, last = max(start, 0), min(end, size)
            rows.append((first, last, float(end - start if node.saved("count_include_pad") else last - first)))
        windows.append(rows)
    return windows


def _spread(values: list[int], dims: int) -> list[int]:
    return values * dims if len(values) == 1 else values


def _adaptive(sizes: tuple[int, ...], outputs: tuple[int, ...]) -> Windows:
    windows = []
    for size, count in zip(sizes, outputs, strict=True):
        ranges = [(y * size // count, -(-(y + 1) * size // count)) for y in range(count)]
        windows.append([(first, end, float(end - first)) for first, end in ranges])
    return windows


Pairs = list[tuple[int, int, float]]
"""Of one dimension: (input position, output position, weight)."""


def _pooled(node: Node, sizes: tuple[int, ...], outputs: tuple[int, ...]) -> list[Pairs]:
    windows = _adaptive(sizes, outputs) if node.op.startswith("Adaptive") else _strided(node, sizes, outputs)
    return [[(x, y, 1.0 / n) for y, (first, end, n) in enumerate(rows) for x in range(first, end)] for rows in windows]


def _interpolated(node: Node, sizes: tuple[int, ...], outputs: tuple[int, ...]) -> list[Pairs]:
    """Interpolation of one dimension, read off PyTorch's own kernel at work on a unit matrix."""
    names = ("scales",) if len(sizes) == 1 else ("scales_d", "scales_h", "scales_w")[3 - len(sizes) :]
    corners = bool(node.saved("align_corners"))
    found = []
    for size, count, name in zip(sizes, outputs, names, strict=True):
        unit = torch.eye(size, dtype=torch.float64)[None]
        kernel = _PLANAR.get(node.op)
        if kernel is None:
            matrix = torch.ops.aten.upsample_linear1d.default(unit, [count], corners, node.saved(name))[0]
        else:
            matrix = kernel(unit[:, :, None], [1, count], corners, None, node.saved(name))[0, :, 0]
        found.append([(x, y, float(matrix[x, y])) for x, y in matrix.nonzero().tolist()])
    return found


_PLANAR = {
    "UpsampleBicubic2D": torch.ops.aten.upsample_bicubic2d.default,
    "UpsampleBilinear2DAa": torch.ops.aten._upsample_bilinear2d_aa.default,
    "UpsampleBicubic2DAa": torch.ops.aten._upsample_bicubic2d_aa.default,
}
"""Kernels that work on planes only: one dimension is a plane one scalar high."""


def windowed(context: Context) -> list[Use]:
    """Rule for average pooling and interpolation."""
    node, ids = context.node, context.ids[0]
    assert ids is not None  # one operand
    shape = node.shapes[0]
    dims = int(next(c for c in node.op if c.isdigit()))  # "AvgPool2D"
    sizes, outputs = tuple(ids.shape[-dims:]), tuple(shape[-dims:])
    by_dim = (_interpolated if node.op.startswith("Upsample") else _pooled)(node, sizes, outputs)
    at, out, weight = (
        torch.zeros(1, dtype=torch.long),
        torch.zeros(1, dtype=torch.long),
        torch.ones(1, dtype=torch.float64),
    )
    for pairs, size, count in zip(by_dim, sizes, outputs, strict=True):
        x, y, w = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
        at = (at[:, None] * size + x.long()).reshape(-1)
        out = (out[:, None] * count + y.long()).reshape(-1)
        weight = (weight[:, None] * w).reshape(-1)
    override = node.saved("divisor_override")
    if override is not None:
        weight = torch.full_like(weight, 1.0 / as_signed(override))
    planes = ids.reshape(-1, math.prod(sizes))
    outs = context.positions(shape.numel()).view(-1, math.prod(outputs))
    use = Use(0, 0, planes[:, at], outs=outs[:, out])
    use.sources[WEIGHTS] = Source("derived", 0, derive=_constant(weight.expand(planes.shape[0], -1)))
    everywhere = torch.arange(ids.numel()).view(planes.shape)[:, at]
    return [use, *context.unused(0, everywhere)]


def _constant(weights: torch.Tensor) -> Callable[[Node], torch.Tensor]:
    return lambda node: weights


ATTRIBUTES = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override", "align_corners",
              "output_size", "scales", "scales_d", "scales_h", "scales_w")  # fmt: skip
WINDOWED = ("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "UpsampleLinear1D", "UpsampleBilinear2D",
            "UpsampleTrilinear3D", *_PLANAR)  # fmt: skip
