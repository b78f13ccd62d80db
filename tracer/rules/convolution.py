"""Convolutions of 1 to 3 dimensions, with strides, padding, dilation and groups, and their transposes, as contractions.

With X unfolded (every output position's window in a column of its own), a group of a convolution is the matrix product
out[co, y] = Σ_(ci,k) W[co, (ci,k)] · X[(ci,k), y], so a scalar of X meets a column of W and one of W a row of X. A
transposed convolution is an ordinary one of stride 1 with the kernel flipped over an input with zeros put in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gradtrace.tracer.kernels.layout import (
    A_S0,
    A_SK,
    A_SM,
    B_S0,
    B_SK,
    B_SN,
    MM,
    U0,
    U1,
    U2,
    UK,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.rules.base import Context, Source, Use
from gradtrace.tracer.walk import Node, as_signed

ATTRIBUTES = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")


@dataclass(frozen=True)
class _Geometry:
    """A convolution as an ordinary one: `stuffed` zeros between input positions, `low`/`high` padding around them."""

    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    stuffed: tuple[int, ...]
    transposed: bool

    @property
    def size(self) -> int:
        """Positions of the kernel."""
        return math.prod(self.kernel)

    def unfold(self, x: torch.Tensor, nothing: int) -> torch.Tensor:
        """[N, G·c, X...] → [N·G, c·kernel, outputs]; what lies outside the input is `nothing`."""
        n, channels = x.shape[:2]
        if any(self.stuffed):
            sizes = [(size - 1) * (gap + 1) + 1 for size, gap in zip(x.shape[2:], self.stuffed, strict=True)]
            wide = torch.full((n, channels, *sizes), nothing, dtype=x.dtype, device=x.device)
            wide[(slice(None), slice(None), *(slice(None, None, gap + 1) for gap in self.stuffed))] = x
            x = wide
        if any(self.low) or any(self.high):
            sides = [side for pair in zip(self.low, self.high, strict=True) for side in pair]
            x = F.pad(x, [s for at in range(len(sides) - 2, -2, -2) for s in sides[at : at + 2]], value=nothing)
        dims = len(self.kernel)
        for dim in range(dims):
            reach = (self.kernel[dim] - 1) * self.dilation[dim] + 1
            x = x.unfold(2 + dim, reach, self.stride[dim])[..., :: self.dilation[dim]]
        x = x.permute(0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims))
        outputs = math.prod(x.shape[2 + dims :])
        return x.reshape(n * self.groups, channels // self.groups * self.size, outputs)

    def flat_weight(self, w: torch.Tensor) -> torch.Tensor:
        """[Cout, Cin/G, k...] (transposed: [Cin, Cout/G, k...]) → [G, Cout/G, Cin/G·kernel]."""
        if not self.transposed:
            return w.reshape(self.groups, w.shape[0] // self.groups, -1)
        split = w.reshape(self.groups, w.shape[0] // self.groups, *w.shape[1:]).transpose(1, 2)
        return split.flip(*range(3, split.dim())).reshape(self.groups, w.shape[1], -1)


def _geometry(node: Node) -> _Geometry:
    transposed = bool(node.saved("transposed"))
    weight: torch.Tensor = node.saved("weight")
    x: torch.Tensor = node.saved("input")
    kernel = tuple(weight.shape[2:])
    stride, padding, dilation = (tuple(as_signed(v) for v in node.saved(n)) for n in ("stride", "padding", "dilation"))
    groups = node.saved_int("groups")
    if not transposed:
        none = (0,) * len(kernel)
        return _Geometry(groups, kernel, stride, dilation, padding, padding, none, False)
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    low = tuple(r - p for r, p in zip(reach, padding, strict=True))
    high = []
    for dim, size in enumerate(node.shapes[0][2:]):
        wide = (x.shape[2 + dim] - 1) * stride[dim] + 1
        high.append(size - 1 + reach[dim] + 1 - wide - low[dim])
    return _Geometry(
        groups, kernel, (1,) * len(kernel), dilation, low, tuple(high), tuple(s - 1 for s in stride), True
    )  # fmt: skip


def convolution(context: Context) -> list[Use]:
    """Uses of the input, the weight and the bias."""
    node = context.node
    geometry = _geometry(node)
    shape = node.shapes[0]
    n, groups = shape[0], geometry.groups
    rows, outputs = shape[1] // groups, math.prod(shape[2:])
    x_ids, w_ids, b_ids = (*context.ids, None, None)[:3]
    weight = geometry.flat_weight(node.saved("weight"))
    inner = weight.shape[2]
    uses = []
    if x_ids is not None:
        # x[(ci,k), y]: max over co of |W[co, (ci,k)] · g[co, y]|
        uses.append(
            Use(
                0, 0, geometry.unfold(x_ids, -1), MM,
                sources={A: Source("derived", 1, derive=_weight(geometry, n))},
                fields={
                    A_S0: 0 if groups == 1 else rows * inner, A_SK: inner, A_SM: 1, B: -1, B_S0: rows * outputs,
                    B_SK: outputs, B_SN: 1, K: rows, U0: rows * outputs, U1: 0, U2: 1, UK: outputs,
                },
            )
        )  # fmt: skip
        places = geometry.unfold(torch.arange(1, x_ids.numel() + 1).view(x_ids.shape), 0)
        uses += context.unused(0, places[places > 0] - 1)
    if w_ids is not None:
        # W[co, (ci,k)]: max over n, y of |X[n, (ci,k), y] · g[n, co, y]|
        ids = geometry.flat_weight(w_ids)
        uses.append(
            Use(
                1, 0, ids.expand(n, *ids.shape).reshape(n * groups, rows, inner), MM,
                sources={B: Source("derived", 0, derive=_unfolded(geometry))},
                fields={
                    A: -1, A_S0: rows * outputs, A_SK: 1, A_SM: outputs, B_S0: inner * outputs, B_SK: 1, B_SN: outputs,
                    K: outputs, U0: rows * outputs, U1: outputs, U2: 0, UK: 1,
                },
            )
        )  # fmt: skip
    if b_ids is not None:
        spread = b_ids.view(-1, *([1] * len(geometry.kernel))).expand(shape)
        uses.append(Use(2, 0, spread, outs=context.out_index()))
    return uses


def _weight(geometry: _Geometry, n: int) -> Callable[[Node], torch.Tensor]:
    def derive(node: Node) -> torch.Tensor:
        flat = geometry.flat_weight(node.saved("weight").detach())
        return flat if geometry.groups == 1 else flat.expand(n, *flat.shape)

    return derive


def _unfolded(geometry: _Geometry) -> Callable[[Node], torch.Tensor]:
    def derive(node: Node) -> torch.Tensor:
        return geometry.unfold(node.saved("input").detach(), 0)

    return derive
