"""How a problem is written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Closure = Callable[[], Tensor]


@dataclass(frozen=True)
class Problem:
    """A named factory: `make(seed)` gives a model and a closure that records its loss.

    The seed draws every float (parameters and inputs); integers, booleans and shapes are the same for all seeds.
    A closure may be called again and records the same thing, dropout masks included.

    Attributes:
        name: `family/what`.
        make: seed → (model, closure).
        ties: whether equal candidates occur by construction.
        rough: whether float32 takes part, so that numbers agree to 1e-6 only.
        regions: whether components are named by hand, which the oracle has to be told.
    """

    name: str
    make: Callable[[int], tuple[nn.Module, Closure]]
    ties: bool = False
    rough: bool = False
    regions: bool = False

    @property
    def tolerance(self) -> float:
        """Relative error that rounding alone explains."""
        return 1e-6 if self.rough else 1e-9


class Scene(nn.Module):
    """Named parameters and data without any structure, for problems that are one expression."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], data: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, dtype=torch.float64)))
        for name, shape in data.items():
            self.register_buffer(name, torch.randn(shape, dtype=torch.float64))

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)


def seeded(seed: int, closure: Closure) -> Closure:
    """`closure` under a random state of its own."""

    def call() -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 + seed)
            return closure()

    return call


def expression(
    name: str,
    shapes: dict[str, tuple[int, ...]],
    loss: Callable[[Any], Tensor],
    *,
    data: dict[str, tuple[int, ...]] | None = None,
    ties: bool = False,
    rough: bool = False,
) -> Problem:
    """A problem whose model is a handful of parameters and whose loss is one expression of them."""

    def make(seed: int) -> tuple[nn.Module, Closure]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scene = Scene(shapes, data or {})
        return scene, seeded(seed, lambda: loss(scene))

    return Problem(name, make, ties, rough)


def network(
    name: str,
    build: Callable[[], nn.Module],
    loss: Callable[[Any, Tensor], Tensor],
    *,
    x: tuple[int, ...] = (4, 3),
    ties: bool = False,
) -> Problem:
    """A problem with a real module and a drawn input of shape `x`; `loss(model, x)`."""

    def make(seed: int) -> tuple[nn.Module, Closure]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build().double()
            batch = torch.randn(x, dtype=torch.float64)
        return model, seeded(seed, lambda: loss(model, batch))

    return Problem(name, make, ties)


def weigh(y: Tensor) -> Tensor:
    """A scalar from any tensor, with a different constant weight on each element."""
    c = torch.sin(torch.arange(1, y.numel() + 1, dtype=torch.float64) * 1.7).to(y.dtype).reshape(y.shape)
    return (y * c).sum()
