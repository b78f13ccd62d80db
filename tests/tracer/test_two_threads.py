"""Leaves shared out over two threads have the traces that they have in one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradtrace.tracer import Trace, solve, trace


class Forked(nn.Module):
    """An LSTM, and a skip beside a hidden layer: leaves of many uses, forks, and contests."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.hidden, self.head = nn.LSTM(6, 8, 2), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lstm(x)[0][-1]
        out: torch.Tensor = self.head(y + torch.tanh(self.hidden(y)))
        return out


def traced(least: int, monkeypatch: pytest.MonkeyPatch) -> Trace:
    monkeypatch.setattr(solve, "_PARALLEL", least)
    torch.manual_seed(0)
    model = Forked()
    x, y = torch.randn(5, 4, 6), torch.tensor([0, 1, 2, 1])
    return trace(lambda: F.cross_entropy(model(x), y), model)


def test_they_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before, halves, shared = torch.get_num_threads(), solve._halves, []

    def seen(*arguments: object) -> object:
        found = halves(*arguments)  # type: ignore[arg-type]
        shared.append(found[1].size > 0)
        return found

    monkeypatch.setattr(solve, "_halves", seen)
    try:
        torch.set_num_threads(2)
        two, one = traced(0, monkeypatch), traced(1 << 60, monkeypatch)
    finally:
        torch.set_num_threads(before)
    assert shared == [True, False]
    ours, theirs = two.batch_trace(), one.batch_trace()
    assert tuple(ours.parameters) == tuple(theirs.parameters)
    assert (ours.traffic == theirs.traffic).all() and ours.mass == pytest.approx(theirs.mass)
    for a, b in zip(ours.components, theirs.components, strict=True):
        assert (a.component, a.traffic, a.contested, a.won) == (b.component, b.traffic, b.contested, b.won)
        assert a.mass == pytest.approx(b.mass)
    assert [(r.parameter, r.route, r.traffic) for r in ours.routes] == [
        (r.parameter, r.route, r.traffic) for r in theirs.routes
    ]
