"""Operators that must not be probed, whatever their size: traced with a probe budget of 0.

That they are traced exactly is for test_problems and test_operators to say.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from gradtrace.tracer import trace
from gradtrace.tracer.errors import UntraceableOperatorError
from tests.problems import Problem, everything
from tests.problems.operators import database, problems_of

FAMILIES = ("scatter/", "fold/", "resize/", "net/weight_norm", "net/fold", "norm/", "reduce/aminmax", "reduce/cum",
            "reduce/logcum", "contract/bilinear")  # fmt: skip
PROBLEMS = [p for p in everything() if p.name.startswith(FAMILIES)]
OPERATORS = [
    *(name for name in database() if name.startswith(("special.bessel_", "special.modified_bessel_"))),
    *(name for name in database() if name.startswith(("scatter_reduce.", "index_reduce.", "_segment_reduce."))),
    "frexp", "nextafter", "native_dropout_backward", "aminmax", "cumprod", "logcumsumexp", "native_group_norm",
    "_batch_norm_with_update", "_native_batch_norm_legit", "nn.functional.bilinear",
    "nn.functional.interpolate.bicubic", "_upsample_bilinear2d_aa",
    *(name for name in database() if name.startswith("nn.functional.linear_cross_entropy")),
]  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_nothing_is_probed(problem: Problem) -> None:
    model, closure = problem.make(0)
    assert trace(closure, model, probe_budget=0).edges()


@pytest.mark.parametrize("name", OPERATORS)
def test_no_sample_of_pytorchs_own_is_probed(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for problem in problems_of(name):
            model, closure = problem.make(0)
            assert trace(closure, model, probe_budget=0).edges()


LARGE: dict[str, Callable[[Tensor], Tensor]] = {
    "fold": lambda y: F.fold(y.reshape(1, 2, 4608), (72, 65), (1, 2)),
    "scatter_reduce": lambda y: y.scatter_reduce(1, torch.arange(9216).reshape(96, 96) % 7, y.T, "mean"),
    "aminmax": lambda y: torch.cat(torch.aminmax(y.reshape(9216, 1), dim=1)),
    "bicubic": lambda y: F.interpolate(y[None, None], scale_factor=1.5, mode="bicubic"),
    "cumprod": lambda y: y.sigmoid().cumprod(1),
    "weight_norm": lambda y: torch._weight_norm(y, y[:, :1].exp(), 0),
    "bilinear": lambda y: F.bilinear(y, y.flip(0), torch.ones(64, 96, 96).double().tril()),
}


@pytest.mark.parametrize("name", LARGE)
def test_more_outputs_than_may_be_probed(name: str) -> None:
    x = torch.linspace(-1, 1, 9216, dtype=torch.float64).sin().reshape(96, 96).requires_grad_()
    found = trace(lambda: LARGE[name](x).square().sum())
    assert found.edges()


def test_a_weight_norm_with_too_many_partials_says_so() -> None:
    wide = weight_norm(nn.Linear(4200, 8))
    with pytest.raises(UntraceableOperatorError, match="no closed rule"):
        trace(lambda: wide(torch.ones(1, 4200)).sum(), wide)
