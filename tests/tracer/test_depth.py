"""Deep nets: nothing in the tracer recurses along the graph."""

from __future__ import annotations

import sys

import torch
from torch import nn

from gradtrace.tracer import trace

LAYERS = 3000


def test_three_thousand_layers() -> None:
    assert sys.getrecursionlimit() < LAYERS
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(LAYERS)))
    for layer in model:
        nn.init.orthogonal_(layer.weight)  # gradients neither vanish nor explode
    t = trace(lambda: model(torch.randn(3, 2)).square().sum(), model)
    path = t.path("0.weight", (1, 0))
    assert path is not None
    assert [hop.op for hop in path.hops] == ["Addmm"] * LAYERS + ["Pow", "Sum"]
    assert path.hops[0].index[1] == 1, "a weight of row 1 reaches unit 1"
