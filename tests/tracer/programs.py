"""Random operator graphs: any list of small integers is a program that records a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.problems.base import Scene, seeded, weigh

Instruction = tuple[int, int, int, int]

UNARY: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.tanh, torch.sin, torch.relu, torch.sigmoid, lambda y: y * y, lambda y: -y, lambda y: 1.5 * y,
    lambda y: y + 0.3, torch.nn.functional.softplus, lambda y: torch.exp(torch.tanh(y)), lambda y: y.abs(),
    lambda y: y**3 / 4,
)  # fmt: skip
BINARY: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    torch.mul, torch.add, torch.sub, torch.maximum, lambda a, b: a / (b * b + 1), lambda a, b: torch.lerp(a, b, 0.3),
    lambda a, b: torch.where(a > 0, a, b),
)  # fmt: skip
MOVES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda y: y.T, lambda y: y.reshape(y.shape[1], y.shape[0]), lambda y: y.flip(0), lambda y: y.roll(1, 1),
    lambda y: torch.cat([y, y[:1]]) if y.numel() <= 9 else y[:-1], lambda y: y.clone(), lambda y: y[:, :1],
    lambda y: y[-1:], lambda y: torch.stack(y.unbind(0)), lambda y: torch.cat(y.split(1, 1), 1),
    lambda y: y[torch.tensor([0, -1])], lambda y: torch.tril(y), lambda y: y.diagonal()[None],
    lambda y: y[:1].expand(3, y.shape[1]), lambda y: torch.nn.functional.pad(y[:2, :2], (0, 1)),
)  # fmt: skip
REDUCE: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda y: y.sum(1, keepdim=True), lambda y: y.mean(0, keepdim=True), lambda y: y.softmax(1), lambda y: y.softmax(0),
    lambda y: y.log_softmax(1), lambda y: y.amax(1, keepdim=True), lambda y: y.cumsum(0),
    lambda y: y.logsumexp(0, keepdim=True), lambda y: torch.nn.functional.layer_norm(y, y.shape[1:]),
    lambda y: y.max(0, keepdim=True)[0],
)  # fmt: skip


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """Some matrix product of any two matrices."""
    if a.shape[1] == b.shape[0]:
        return a @ b
    if a.shape[1] == b.shape[1]:
        return a @ b.T
    if a.shape[0] == b.shape[0]:
        return a.T @ b
    return a[:, :1] @ b[:1]


def _write(a: Tensor, b: Tensor) -> Tensor:
    """Part of a copy of `a` overwritten in place by part of `b`."""
    y = a * 1.25
    if a.shape[0] > 1:
        y[:1] = b[:1, :1]
    else:
        y[:, :1] = b[:1, :1]
    return y


def _broadcast(a: Tensor, b: Tensor) -> Tensor:
    """`b` cut down until it broadcasts against `a`."""
    if b.shape[0] not in (1, a.shape[0]):
        b = b[:1]
    if b.shape[1] not in (1, a.shape[1]):
        b = b[:, :1]
    return b


def step(values: list[Tensor], instruction: Instruction) -> Tensor:
    """The tensor that one instruction makes of those before it."""
    kind, which, i, j = instruction
    a, b = values[-1 - i % len(values)], values[-1 - j % len(values)]
    match kind:
        case 0 | 1:
            return UNARY[which % len(UNARY)](a)
        case 2 | 3:
            return BINARY[which % len(BINARY)](a, _broadcast(a, b))
        case 4 | 5:
            return MOVES[which % len(MOVES)](a)
        case 6:
            return REDUCE[which % len(REDUCE)](a)
        case 7 | 8:
            return _multiply(a, b)
        case _:
            return _write(a, b)


def programs() -> st.SearchStrategy[list[Instruction]]:
    """Two to nine instructions."""
    small = st.integers(0, 15)
    return st.lists(st.tuples(st.integers(0, 9), small, st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=9)


def make(program: list[Instruction]) -> Callable[[int], tuple[nn.Module, Callable[[], Tensor]]]:
    """The problem that a program describes."""

    def factory(seed: int) -> tuple[nn.Module, Callable[[], Tensor]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scene: Any = Scene({"p": (2, 3), "q": (3, 2), "r": (1, 3)}, {"x": (2, 2)})

        def loss() -> Tensor:
            values = [scene.x, scene.r, scene.q, scene.p]
            for instruction in program:
                values.append(step(values, instruction))
            return weigh(values[-1]) + weigh(values[-2]) + 0.1 * weigh(scene.p)

        return scene, seeded(seed, loss)

    return factory
