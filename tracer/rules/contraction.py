"""Bilinear contractions: every scalar of one factor meets a whole line of the other, so the choice is a (max, ×) product."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

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
    WEIGHTS,
    A,
    B,
    K,
)  # fmt: skip
from gradtrace.tracer.rules.base import MAX_PARTIALS, Context, Entries, Source, Use
from gradtrace.tracer.rules.probe import with_the_rest
from gradtrace.tracer.walk import Node

_SMALL = 1 << 13
"""Elements of a factor up to which lines with gaps cost less than a copy without."""


def _dense(tensor: torch.Tensor) -> tuple[int, ...]:
    """Strides in which the step has to present this tensor: its own where they cover memory without gaps or repeats."""
    own = tuple(tensor.stride())
    order = sorted(range(tensor.dim()), key=lambda d: (-own[d], d))
    expected = 1
    for dim in reversed(order):
        if tensor.shape[dim] != 1 and own[dim] != expected:
            return torch.empty(tensor.shape, device="meta").stride()
        expected *= tensor.shape[dim]
    return own


def _product(
    context: Context, left: int, right: int, names: tuple[str, str], constant: float, summed: bool = False
) -> list[Use]:
    """Uses of both factors of out[n, r, o] = Σ_i left[n, r, i] · right[n, i, o], or (`summed`) of its sum over n."""
    node = context.node
    output = context.outputs[0]
    shape = node.shapes[output]
    x_ids, y_ids = context.ids[left], context.ids[right]
    x, y = node.saved(names[0]), node.saved(names[1])
    batched = len(shape) == 3 or summed
    n = (x if x is not None else y).shape[0] if batched else 1
    apart = 0 if summed else shape[-2] * shape[-1]
    rows, cols = shape[-2], shape[-1]
    uses = []
    if x_ids is not None and y is not None:
        # left[n, r, i]: max over o of |right[n, i, o] · g[n, r, o]|; few scalars are visited, so lines along o must lie together
        # (a small factor is not worth a copy)
        strides = _dense(y) if y.numel() <= _SMALL else torch.empty(y.shape, device="meta").stride()
        y_n, y_i, y_o = (strides[0] if batched else 0), strides[-2], strides[-1]
        inner = y.shape[-2]
        uses.append(
            Use(
                left,
                output,
                x_ids.reshape(n, rows, inner),
                MM,
                sources={B: Source("saved", right, names[1], strides=strides)},
                fields={
                    A: -1, A_S0: apart, A_SK: 1, A_SM: cols, B_S0: y_n, B_SK: y_o, B_SN: y_i, K: cols,
                    U0: apart, U1: cols, U2: 0, UK: 1,
                },
                constant=constant,
            )
        )  # fmt: skip
    if y_ids is not None and x is not None:
        # right[n, i, o]: max over r of |left[n, r, i] · g[n, r, o]|
        strides = _dense(x)
        x_n, x_r, x_i = (strides[0] if batched else 0), strides[-2], strides[-1]
        inner = x.shape[-1]
        ids = y_ids.reshape(n, inner, cols)
        # The inner loop runs along the dimension in which the factor's own storage is contiguous.
        if ids.stride(1) <= ids.stride(2):
            use = Use(
                right, output, ids.transpose(1, 2), MM,
                sources={B: Source("saved", left, names[0], strides=strides)},
                fields={
                    A: -1, A_S0: apart, A_SK: cols, A_SM: 1, B_S0: x_n, B_SK: x_r, B_SN: x_i, K: rows,
                    U0: apart, U1: 1, U2: 0, UK: cols,
                },
                constant=constant,
            )  # fmt: skip
        else:
            use = Use(
                right, output, ids, MM,
                sources={A: Source("saved", left, names[0], strides=strides)},
                fields={
                    B: -1, A_S0: x_n, A_SK: x_r, A_SM: x_i, B_S0: apart, B_SK: cols, B_SN: 1, K: rows,
                    U0: apart, U1: 0, U2: 1, UK: cols,
                },
                constant=constant,
            )  # fmt: skip
        uses.append(use)
    return uses


def _number(node: Node, name: str) -> float:
    value = node.saved(name)
    return 1.0 if value is None else float(value)


def _added(context: Context, factor: float) -> list[Use]:
    """The summand of addmm and its kin: read by every output scalar to which it is broadcast."""
    ids = context.ids[0]
    if ids is None:
        return []
    output = context.outputs[0]
    return [Use(0, output, ids.expand(context.node.shapes[output]), outs=context.out_index(output), constant=factor)]


def _mm(context: Context) -> list[Use]:
    return _product(context, 0, 1, ("self", "mat2"), 1.0)


def _addmm(context: Context) -> list[Use]:
    alpha, beta = _number(context.node, "alpha"), _number(context.node, "beta")
    return _added(context, beta) + _product(context, 1, 2, ("mat1", "mat2"), alpha)


def _baddbmm(context: Context) -> list[Use]:
    alpha, beta = _number(context.node, "alpha"), _number(context.node, "beta")
    return _added(context, beta) + _product(context, 1, 2, ("batch1", "batch2"), alpha)


def _addbmm(context: Context) -> list[Use]:
    alpha, beta = _number(context.node, "alpha"), _number(context.node, "beta")
    return _added(context, beta) + _product(context, 1, 2, ("batch1", "batch2"), alpha, summed=True)


def _addr(context: Context) -> list[Use]:
    """out[r, c] = v[r] · w[c], added: each scalar of a vector is read by a row or a column."""
    node, shape = context.node, context.node.shapes[0]
    uses = _added(context, _number(node, "beta"))
    for slot, other, own in ((1, "vec2", (-1, 1)), (2, "vec1", (1, -1))):
        ids = context.ids[slot]
        if ids is None:
            continue

        def spread(node: Node, other: str = other, place: tuple[int, int] = (own[1], own[0])) -> torch.Tensor:
            value: torch.Tensor = node.saved(other)
            return value.view(place).expand(shape)

        use = Use(slot, 0, ids.view(own).expand(shape), outs=context.out_index(), constant=_number(node, "alpha"))
        use.sources[WEIGHTS] = Source("derived", slot, derive=spread)
        uses.append(use)
    return uses


def _mv(context: Context) -> list[Use]:
    return _matrix_vector(context, 0, 1, ("self", "vec"), 1.0)


def _addmv(context: Context) -> list[Use]:
    alpha, beta = _number(context.node, "alpha"), _number(context.node, "beta")
    return _added(context, beta) + _matrix_vector(context, 1, 2, ("mat", "vec"), alpha)


def _matrix_vector(context: Context, left: int, right: int, names: tuple[str, str], constant: float) -> list[Use]:
    """out[r] = Σ_i m[r, i] · v[i]: a matrix scalar has one consumer, a vector scalar one in each row."""
    node, output = context.node, context.outputs[0]
    rows = node.shapes[output][0]
    index = context.positions(rows).view(-1, 1)
    uses = []
    for slot, name in ((left, names[1]), (right, names[0])):
        ids = context.ids[slot]
        if ids is None:
            continue
        inner = ids.shape[-1]
        shape = (rows, inner)

        def spread(node: Node, name: str = name, shape: tuple[int, int] = shape) -> torch.Tensor:
            value: torch.Tensor = node.saved(name)
            return value.expand(shape)

        use = Use(slot, output, ids.expand(shape), outs=index.expand(shape), constant=constant)
        use.sources[WEIGHTS] = Source("derived", slot, derive=spread)
        uses.append(use)
    return uses


def _trilinear(context: Context) -> list[Use] | None:
    """nn.Bilinear: out[b, o] = Σ_ij x[b, i] · w[o, i, j] · y[b, j]. None for other sums of three factors.

    Of x and y the other two factors' product tells the weights; of w that of x and y.
    """
    node = context.node
    if tuple(tuple(node.saved(name)) for name in TRILINEAR_ATTRIBUTES) != ((1, 3), (0,), (1, 2), (2, 3)):
        return None
    (x_ids, w_ids, y_ids), (rows, cols) = context.ids, node.shapes[0]
    uses = []
    for slot, ids, other, equation in ((0, x_ids, "i3", "oij,bj->boi"), (2, y_ids, "i1", "oij,bi->boj")):
        if ids is None:
            continue

        def partials(node: Node, other: str = other, equation: str = equation) -> torch.Tensor:
            return torch.einsum(equation, node.saved("i2").detach(), node.saved(other).detach()).contiguous()

        inner = ids.shape[1]
        use = Use(
            slot, 0, ids.reshape(rows, inner, 1), MM,
            sources={A: Source("derived", slot, derive=partials)},
            fields={
                A_S0: cols * inner, A_SK: inner, A_SM: 1, B: -1, B_S0: cols, B_SK: 1, B_SN: 0, K: cols,
                U0: cols, U1: 0, U2: 0, UK: 1,
            },
        )  # fmt: skip
        uses.append(use)
    if w_ids is not None:
        inner = w_ids[0].numel()
        use = Use(
            1, 0, w_ids.reshape(1, cols, inner), MM,
            sources={B: Source("derived", 1, derive=_outer)},
            fields={
                A: -1, A_S0: 0, A_SK: cols, A_SM: 1, B_S0: 0, B_SK: inner, B_SN: 1, K: rows,
                U0: 0, U1: 1, U2: 0, UK: cols,
            },
        )  # fmt: skip
        uses.append(use)
    return sorted(uses, key=lambda use: use.slot)


TRILINEAR_ATTRIBUTES = ("expand1", "expand2", "expand3", "sumdim")


def _outer(node: Node) -> torch.Tensor:
    """x[b, i] · y[b, j]."""
    return torch.einsum("bi,bj->bij", node.saved("i1").detach(), node.saved("i3").detach()).contiguous()


_TRIANGLE = 1 << 12


def _cumsum(context: Context) -> list[Use] | None:
    """out[i] = Σ_(j≤i) x[j]: a product with a triangle of ones. None beyond 4,096 places, where that triangle is too large."""
    ids, shape = context.ids[0], context.node.shapes[0]
    assert ids is not None  # one operand
    if not shape or not shape.numel():
        return None
    dim = context.node.saved_int("dim") % len(shape)
    size, outer, inner = shape[dim], shape[:dim].numel(), shape[dim + 1 :].numel()
    if size > _TRIANGLE:
        return None
    triangle = torch.ones(size, size, dtype=context.node.dtypes[0]).tril()  # [i, j]: whether output i reads j
    return [
        Use(
            0, 0, ids.reshape(outer, size, inner), MM,
            sources={A: Source("derived", 0, derive=lambda node: triangle)},
            fields={
                A_S0: 0, A_SK: size, A_SM: 1, B: -1, B_S0: size * inner, B_SK: inner, B_SN: 1, K: size,
                U0: size * inner, U1: 0, U2: 1, UK: inner,
            },
        )
    ]  # fmt: skip


def _cumulative(context: Context) -> list[Use] | None:
    """Cumulative products and their like: out[i] reads all x[j] with j ≤ i, by partials that depend on values.

    None if those are too many.
    """
    ids, shape = context.ids[0], context.node.shapes[0]
    assert ids is not None  # one operand
    if not shape or shape.numel() * shape[context.node.saved_int("dim")] > MAX_PARTIALS:
        return None
    return [Use(0, 0, ids, listed=_earlier)]


def _earlier(node: Node, ids: Sequence[torch.Tensor | None]) -> Entries:
    operand, dim, shape = ids[0], node.saved_int("dim"), node.shapes[0]
    assert operand is not None  # one operand
    j, i = torch.triu_indices(shape[dim], shape[dim])
    numbers = torch.arange(shape.numel(), dtype=torch.int32).view(shape).movedim(dim, -1)
    own, outs, weights = operand.movedim(dim, -1)[..., j], numbers[..., i], _CUMULATIVE[node.op](node, dim)[..., j, i]
    return with_the_rest(
        operand, [(own.reshape(-1).to(torch.int32), outs.reshape(-1), weights.reshape(-1))], node.dtypes[0]
    )


def _without_one(node: Node, dim: int) -> torch.Tensor:
    """[..., j, i]: the product of all up to i but j (no quotient, which zeros would spoil)."""
    x = node.saved("self").detach().cpu().to(node.dtypes[0]).movedim(dim, -1).unsqueeze(-2)
    own = torch.eye(x.shape[-1], dtype=torch.bool)
    return torch.where(own, 1, x).cumprod(-1)


def _exponential_shares(node: Node, dim: int) -> torch.Tensor:
    """[..., j, i]: exp(x_j − y_i), of y the cumulative log-sums."""
    x, y = (node.saved(name).detach().cpu().movedim(dim, -1) for name in ("self", "result"))
    return (x.unsqueeze(-1) - y.unsqueeze(-2)).exp()


_CUMULATIVE = {"Cumprod": _without_one, "Logcumsumexp": _exponential_shares}

CONTRACTIONS: dict[str, Callable[[Context], list[Use] | None]] = {
    "Mm": _mm,
    "Addmm": _addmm,
    "Bmm": _mm,
    "Baddbmm": _baddbmm,
    "Addbmm": _addbmm,
    "Addr": _addr,
    "Mv": _mv,
    "Addmv": _addmv,
    "Trilinear": _trilinear,
    "Cumsum": _cumsum,
    **dict.fromkeys(_CUMULATIVE, _cumulative),
}
"""Rule by operator name; None leaves an operator to probing."""
