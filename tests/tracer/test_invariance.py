"""A trace never depends on how a tensor was reshaped on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import trace
from tests.tracer.judging import MODES

Move = Callable[[Tensor], Tensor]

INSERTS: dict[str, Move] = {
    "transposed_twice": lambda y: y.T.T,
    "reshape_and_back": lambda y: y.reshape(-1).reshape(y.shape),
    "transpose_copy_and_back": lambda y: y.transpose(0, 1).contiguous().transpose(0, 1),
    "split_and_cat": lambda y: torch.cat(y.split(1, dim=1), dim=1),
    "unbind_and_stack": lambda y: torch.stack(y.unbind(0)),
    "expand_to_itself": lambda y: y.expand(*y.shape),
    "expand_and_select": lambda y: y[None].expand(3, *y.shape)[1],
    "contiguous": lambda y: y.contiguous(),
    "clone": lambda y: y.clone(),
    "flip_and_back": lambda y: y.flip(0, 1).flip(1).flip(0),
    "roll_and_back": lambda y: y.roll(1, 0).roll(-1, 0),
    "pad_and_cut": lambda y: nn.functional.pad(y, (1, 1))[:, 1:-1],
    "index_all": lambda y: y[torch.arange(y.shape[0])],
    "gather_all": lambda y: y.gather(1, torch.arange(y.shape[1]).expand(y.shape)),
    "where_itself": lambda y: torch.where(torch.arange(y.shape[1]) % 2 == 0, y, y.clone()),
    "repeat_and_cut": lambda y: y.repeat(2, 1)[y.shape[0] :],
    "permute_3d": lambda y: y[..., None].permute(2, 0, 1).squeeze(0),
}


class Highway(nn.Module):
    """A network with forks, and a place for an insertion on parameters, inputs and both branches."""

    def __init__(self, move: Move) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.gate = nn.Linear(4, 4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)
        self.move = [move]

    def forward(self, x: Tensor) -> Tensor:
        move = self.move[0]
        h = move(torch.tanh(self.first(move(x))))
        t = torch.sigmoid(move(self.gate(h)))
        body = torch.relu(h @ move(self.body.weight).T + move(self.body.bias[None]))
        h = move(move(t) * body) + move((1 - t) * move(h))
        return self.head(h)


def traced(move: Move, modes: tuple[str, ...] = MODES) -> tuple[Any, nn.Module]:
    torch.manual_seed(3)
    model = Highway(move).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    y = torch.tensor([0, 2])
    return trace(lambda: nn.functional.cross_entropy(model(x), y), model, mode=modes), model


@pytest.mark.parametrize("name", INSERTS)
def test_inserting_movement_changes_nothing(name: str) -> None:
    plain, model = traced(lambda y: y)
    moved, _ = traced(INSERTS[name])
    for mode in MODES:
        for parameter, tensor in model.named_parameters():
            for flat in range(tensor.numel()):
                a, b = (t.path(parameter, flat, mode=mode) for t in (plain, moved))
                assert (a is None) == (b is None), (parameter, flat)
                if a is None:
                    continue
                assert [(h.op, h.index, h.component) for h in a.hops] == [(h.op, h.index, h.component) for h in b.hops]
                np.testing.assert_allclose([h.weight for h in a.hops], [h.weight for h in b.hops], rtol=1e-12)
                np.testing.assert_allclose([h.gradient for h in a.hops], [h.gradient for h in b.hops], rtol=1e-12)
                assert a.margin == pytest.approx(b.margin, rel=1e-9)
                assert a.concentration == pytest.approx(b.concentration, rel=1e-9)
                assert a.route == b.route
        left, right = plain.batch_trace(mode), moved.batch_trace(mode)
        assert left.graph.fingerprint == right.graph.fingerprint
        assert np.array_equal(left.traffic, right.traffic)
        assert np.array_equal(left.dominant, right.dominant)
        for quantity in ("flow", "peak", "mass"):
            np.testing.assert_allclose(getattr(left, quantity), getattr(right, quantity), rtol=1e-12)
        for a, b in zip(left.components, right.components, strict=True):
            assert (a.component, a.traffic, a.contested, a.won) == (b.component, b.traffic, b.contested, b.won)


def test_the_batch_may_be_read_in_any_order() -> None:
    """Movement that truly moves: examples reversed and reversed back around the whole body."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(3, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 1])
    plain = trace(lambda: nn.functional.cross_entropy(model(x), y), model)
    model.zero_grad()
    turned = trace(lambda: nn.functional.cross_entropy(model(x.flip(0)).flip(0), y), model)
    for flat in range(12):
        a, b = plain.path("0.weight", flat), turned.path("0.weight", flat)
        assert [h.op for h in a.hops] == [h.op for h in b.hops]
        assert b.hops[0].index == (2 - a.hops[0].index[0], a.hops[0].index[1])
        np.testing.assert_allclose([h.weight for h in a.hops], [h.weight for h in b.hops], rtol=1e-12)
