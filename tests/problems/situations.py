"""What researchers do around a model: adapters, frozen parts, checkpointing, functional calls, functions of their own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

from gradtrace.tracer import declare
from tests.problems.base import Problem, expression, network, weigh


class Adapted(nn.Module):
    """A frozen linear layer with a low-rank adapter (Hu et al. 2021), twice."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.ModuleList(nn.Linear(3, 3).requires_grad_(False) for _ in range(2))
        self.down = nn.ParameterList(nn.Parameter(torch.randn(2, 3)) for _ in range(2))
        self.up = nn.ParameterList(nn.Parameter(torch.randn(3, 2)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for base, down, up in zip(self.base, self.down, self.up, strict=True):
            x = torch.tanh(base(x) + 0.5 * (x @ down.T) @ up.T)
        return x


class Checkpointed(nn.Module):
    """A block whose activations are computed again in the backward, around a recurrent module if asked."""

    def __init__(self, recurrent: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.block: nn.Module = (
            nn.LSTM(3, 3) if recurrent else nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
        )
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = checkpoint(self.block, x, use_reentrant=False)
        return self.head(x[0] if isinstance(x, tuple) else x)


class Stacked(nn.Module):
    """Three linear models in one, by vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, 3))
        self.bias = nn.Parameter(torch.randn(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return vmap(lambda w, b: torch.tanh(F.linear(x, w, b)))(self.weight, self.bias)


class Frozen(nn.Module):
    """A frozen body between two layers that learn; its batch norm runs on kept statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 3)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU()).requires_grad_(False).eval()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


class Swish(torch.autograd.Function):
    """x·sigmoid(β·x) with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(x, beta)
        return x * torch.sigmoid(beta * x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, beta = ctx.saved_tensors
        s = torch.sigmoid(beta * x)
        return g * (s + beta * x * s * (1 - s)), g * x * x * s * (1 - s)


class Centred(torch.autograd.Function):
    """Every row less its mean, times a row of gains."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        ctx.save_for_backward(x, gain)
        return (x - x.mean(-1, keepdim=True)) * gain

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, gain = ctx.saved_tensors
        h = g * gain
        return h - h.mean(-1, keepdim=True), g * (x - x.mean(-1, keepdim=True))


class Clone(torch.autograd.Function):
    """Has the name of an operator that moves data, but scales."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 2


declare(Swish, "elementwise")
declare(Centred, "rows")


def several_losses(model: nn.Module, x: Tensor) -> Tensor:
    y = model(x)
    return (
        F.mse_loss(y, torch.ones_like(y))
        + 0.3 * F.cross_entropy(y, torch.tensor([0, 1]))
        + 0.01 * sum(p.square().sum() for p in model.parameters())
    )


def called_functionally(model: nn.Module, x: Tensor) -> Tensor:
    return weigh(functional_call(model, dict(model.named_parameters()), (x,)))


def problems() -> list[Problem]:
    """Situations as small problems."""

    def mlp() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    ab = {"a": (3, 4), "b": (3, 4)}
    return [
        network("situation/adapters", Adapted, lambda m, x: weigh(m(x)), x=(2, 3)),
        network("situation/checkpoint", Checkpointed, lambda m, x: weigh(m(x)), x=(2, 3)),
        network("situation/checkpoint_lstm", lambda: Checkpointed(True), lambda m, x: weigh(m(x)), x=(3, 2, 3)),
        network("situation/vmap", Stacked, lambda m, x: weigh(m(x)), x=(2, 3)),
        network("situation/frozen", Frozen, lambda m, x: weigh(m(x)), x=(4, 3)),
        network("situation/functional_call", mlp, called_functionally, x=(2, 3)),
        network("situation/several_losses", mlp, several_losses, x=(2, 3)),
        expression("situation/declared_elementwise", ab, lambda m: weigh(Swish.apply(m.a, m.b) * m.a)),
        expression("situation/declared_rows", ab, lambda m: weigh(Centred.apply(m.a, m.b).tanh())),
        expression("situation/named_like_movement", {"a": (3,)}, lambda m: weigh(Clone.apply(m.a) * m.a)),
    ]
