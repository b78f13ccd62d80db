"""In-place writes, custom functions and odd losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.problems.base import Problem, expression, weigh


class Two(torch.autograd.Function):
    """Two outputs of two inputs."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(a, b)
        return a * b, a + b

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return g * b + h, g * a + h


class StraightThrough(torch.autograd.Function):
    """Rounds forward, identity backward."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        return a.round()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Doubled(torch.autograd.Function):
    """Doubles in place."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        ctx.mark_dirty(a.mul_(2))
        return a

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * g


def slice_write(m: Any) -> Tensor:
    y = m.a * 2
    y[1:3] = m.b * 3
    return weigh(y**2)


def slice_add(m: Any) -> Tensor:
    y = m.a * 2
    y[1:3] += m.b
    return weigh(y**2)


def slice_mul(m: Any) -> Tensor:
    y = m.a * 2
    y[:, 1].mul_(m.b[0, 0])
    return weigh(y**2)


def slice_add_alone(m: Any) -> Tensor:
    y = m.a * 2
    y[1:3].add_(m.b, alpha=3)
    return weigh(y**2)


def slice_add_constant(m: Any) -> Tensor:
    y = m.a * 2
    y[1:3] += 1
    return weigh(y**2) + m.b.sum()


def slice_broadcast(m: Any) -> Tensor:
    y = m.a * 2
    y[1:].div_(m.b[0])
    y.t()[1].add_(m.b[1, 1])
    return weigh(y**2)


def slice_chain(m: Any) -> Tensor:
    y = m.a * 2
    part = y[::2]
    part.neg_().add_(m.b, alpha=0.5)
    y[0].tanh_()
    return weigh(y**2) + weigh(part)


def slice_permuted(m: Any) -> Tensor:
    y = (m.a.t().contiguous() * 2).t() * 1.5
    y[0, 1:].mul_(m.b[0, 0])
    return weigh(y**2)


def slice_masked(m: Any) -> Tensor:
    y = m.a * 2
    y[1:].masked_fill_(torch.tensor([True, False, True]), 0.5)
    y[0].index_fill_(0, torch.tensor([1]), 2.0)
    return weigh(y**2) + m.b.sum()


def slice_scalar_value(m: Any) -> Tensor:
    y = m.a * 2
    y[0].fill_(m.b[0, 0])
    y[1].zero_()
    return weigh(y**2)


def slice_on_constant(m: Any) -> Tensor:
    y = torch.ones(4, 3, dtype=torch.float64)
    y[1:3] += m.b
    y[0].addcmul_(m.a[0], m.a[1])
    return weigh(y**2)


def slice_cumulated(m: Any) -> Tensor:
    y = m.a * 2
    y[1:3].cumsum_(0)
    y[:2].addmm_(m.b, m.a[:3])
    return weigh(y**2)


def slice_custom(m: Any) -> Tensor:
    y = m.a * 2
    Doubled.apply(y[1])
    return weigh(y**2) + m.b.sum()


def slice_of_gathered(m: Any) -> Tensor:
    y = torch.where(m.a > 0, m.a, m.b.sum())
    y[1:3] *= m.b
    y[0] = m.b[torch.tensor([0, 1]), torch.tensor([2, 2])].sum()
    return weigh(y**2)


def slice_all(m: Any) -> Tensor:
    y = m.a * 2
    y[:].mul_(3)
    return weigh(y**2) + m.b.sum()


def slice_constant(m: Any) -> Tensor:
    y = m.a * 2
    y[0] = 1.5
    return weigh(y**2) + m.b.sum()


def row_writes(m: Any) -> Tensor:
    y = torch.zeros(4, 3, dtype=torch.float64)
    for i in range(4):
        y[i] = torch.tanh(m.a[i] * (i + 1))
    return weigh(y**2) + m.b.sum()


def whole_inplace(m: Any) -> Tensor:
    y = m.a * 2
    y.add_(1.0).mul_(m.b.sum()).sigmoid_()
    return weigh(y)


def relu_inplace(m: Any) -> Tensor:
    return weigh(torch.relu_(m.a @ m.b.T) ** 2)


def copy_whole(m: Any) -> Tensor:
    y = torch.empty(2, 3, dtype=torch.float64)
    y.copy_(m.b)
    return weigh(y**2) + weigh(m.a)


def index_write(m: Any) -> Tensor:
    y = m.a * 2
    y[torch.tensor([0, 3])] = m.b
    return weigh(y**2)


def index_add(m: Any) -> Tensor:
    return weigh((m.a * 2).index_add(0, torch.tensor([1, 1]), m.b) ** 2)


def hook_on_leaf(m: Any) -> Tensor:
    return weigh(torch.tanh(m.a)) + weigh(m.b * 2)


def problems() -> list[Problem]:
    """Writes, custom functions and losses that are barely operators."""
    ab = {"a": (4, 3), "b": (2, 3)}
    found = [
        expression(f"write/{f.__name__}", ab, f)
        for f in (slice_write, slice_add, slice_mul, slice_add_alone, slice_add_constant, slice_broadcast, slice_chain,
                  slice_permuted, slice_masked, slice_scalar_value, slice_on_constant, slice_cumulated, slice_custom,
                  slice_of_gathered, slice_all, slice_constant, row_writes, whole_inplace, relu_inplace,
                  copy_whole, index_write, index_add, hook_on_leaf)
    ]  # fmt: skip
    v = {"a": (3,), "b": (3,)}
    found += [
        expression("custom/two", v, lambda m: weigh(Two.apply(m.a, m.b)[0] * Two.apply(m.b, m.a)[1])),
        expression("custom/one_output_unused", v, lambda m: weigh(Two.apply(m.a, m.b)[0])),
        expression("custom/straight_through", v, lambda m: weigh(StraightThrough.apply(m.a * 3) * m.b)),
        expression("odd/sum_of_parameter", {"a": (2, 3)}, lambda m: m.a.sum()),
        expression("odd/element_of_vector", v, lambda m: (m.a * m.b)[1]),
        expression("odd/view_of_scalar", v, lambda m: (m.a * m.b).sum().reshape(1, 1).squeeze()),
        expression("odd/one_element_loss", v, lambda m: (m.a * m.b).sum().reshape(1)),
        expression("odd/scalar_parameter", {"a": ()}, lambda m: torch.exp(m.a) * m.a),
        expression("odd/cancelling", v, lambda m: weigh(m.a * 2 - m.a * 2) + weigh(m.b)),
        expression("odd/zero_weight", v, lambda m: weigh(m.a * 0.0 * m.b)),
        expression("odd/ties_add", v, lambda m: (m.a + m.a + m.b).sum(), ties=True),
        expression("odd/ties_rows", {"a": (3,)}, lambda m: m.a.expand(4, 3).tanh().sum(), ties=True),
        expression("odd/ties_slots", {"a": (3,)}, lambda m: (m.a * m.a).sum(), ties=True),
        expression("odd/empty_part", v, lambda m: weigh(torch.cat([m.a[:0], m.b * 2])) + m.a.sum()),
    ]
    return found
