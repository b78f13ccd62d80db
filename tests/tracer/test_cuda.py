"""Models on a CUDA device: the same traces as on the CPU. Needs one, and says so where there is none."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from gradtrace.tracer import trace

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: this machine has no CUDA device")


class Net(nn.Module):
    """Closed rules, a norm, a stuffed convolution, movement by index, an in-place write and an operator that is probed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.wide = nn.ConvTranspose1d(4, 4, 2, stride=3)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(self.embed(x)) * 2
        y[:, 1:] += self.embed(x)[:, 1:]
        y = y + self.wide(y)[..., :4].cumsum(-1)
        return torch.linalg.inv(y[:, :4] + 5 * torch.eye(4, dtype=y.dtype, device=y.device)).square().sum()


@pytest.mark.parametrize("granularity", ["operator", "scalar"])
def test_traces_are_those_of_the_cpu(granularity: str) -> None:
    torch.manual_seed(0)
    here = Net().double()
    there = copy.deepcopy(here).cuda()
    x = torch.randint(7, (2, 4))
    modes = ("greedy", "maxprod") if granularity == "scalar" else ("greedy", "maxprod", "entropy")
    a = trace(lambda: here(x), here, mode=modes, granularity=granularity)
    b = trace(lambda: there(x.cuda()), there, mode=modes, granularity=granularity)
    if "entropy" in modes:
        np.testing.assert_allclose(a.spread("body.0.weight").entropy, b.spread("body.0.weight").entropy, rtol=1e-8)
    for mode in ("greedy", "maxprod"):
        for mine, other in zip(a.parameters(mode), b.parameters(mode), strict=True):
            assert (mine.parameter, mine.traffic, mine.dead, mine.unread) == (
                other.parameter, other.traffic, other.dead, other.unread
            )  # fmt: skip
            assert mine.mass == pytest.approx(other.mass, rel=1e-9)
    if granularity == "scalar":
        np.testing.assert_allclose(a.scalar_graph().weight, b.scalar_graph().weight, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(a.scalar_graph().gradient, b.scalar_graph().gradient, rtol=1e-8, atol=1e-10)
