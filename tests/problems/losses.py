"""Loss functions, in every usual form."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.problems.base import Problem, network

CLASSES = torch.tensor([0, 2, 1, 2])
HALF = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0]], dtype=torch.float64)
REAL = torch.linspace(-1.0, 1.3, 12, dtype=torch.float64).reshape(4, 3)
WEIGHT = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
SIGNS = torch.tensor([[1, -1, 1], [-1, -1, 1], [1, 1, -1], [-1, 1, 1]], dtype=torch.float64)
PAIR = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "mse": lambda y: F.mse_loss(y, REAL),
    "mse_sum": lambda y: F.mse_loss(y, REAL, reduction="sum"),
    "mse_none": lambda y: F.mse_loss(y, REAL, reduction="none").mean(1).sum(),
    "mse_both": lambda y: F.mse_loss(y, y.detach().roll(1, 0)) + F.mse_loss(y[:2], y[2:]),
    "l1": lambda y: F.l1_loss(y, REAL),
    "smooth_l1": lambda y: F.smooth_l1_loss(y, REAL, beta=0.5),
    "huber": lambda y: F.huber_loss(y, REAL, delta=0.7),
    "cross_entropy": lambda y: F.cross_entropy(y, CLASSES),
    "cross_entropy_sum": lambda y: F.cross_entropy(y, CLASSES, reduction="sum"),
    "cross_entropy_none": lambda y: F.cross_entropy(y, CLASSES, reduction="none").mean(),
    "cross_entropy_weight": lambda y: F.cross_entropy(y, CLASSES, weight=WEIGHT),
    "cross_entropy_ignore": lambda y: F.cross_entropy(y, torch.tensor([0, -100, 1, 2])),
    "cross_entropy_smooth": lambda y: F.cross_entropy(y, CLASSES, label_smoothing=0.1),
    "cross_entropy_soft": lambda y: F.cross_entropy(y, HALF),
    "cross_entropy_places": lambda y: F.cross_entropy(y.reshape(2, 3, 2), torch.tensor([[0, 2], [1, 1]])),
    "nll": lambda y: F.nll_loss(F.log_softmax(y, 1), CLASSES),
    "nll_weight_sum": lambda y: F.nll_loss(F.log_softmax(y, 1), CLASSES, weight=WEIGHT, reduction="sum"),
    "bce": lambda y: F.binary_cross_entropy(torch.sigmoid(y), HALF),
    "bce_weight": lambda y: F.binary_cross_entropy(torch.sigmoid(y), HALF, weight=WEIGHT),
    "bce_logits": lambda y: F.binary_cross_entropy_with_logits(y, HALF),
    "bce_logits_pos_weight": lambda y: F.binary_cross_entropy_with_logits(y, HALF, pos_weight=WEIGHT),
    "kl_div": lambda y: F.kl_div(F.log_softmax(y, 1), F.softmax(REAL, 1), reduction="batchmean"),
    "gaussian_nll": lambda y: F.gaussian_nll_loss(y, REAL, F.softplus(y.detach()) + 0.1),
    "gaussian_nll_var": lambda y: F.gaussian_nll_loss(y[:2], REAL[:2], F.softplus(y[2:]) + 0.1),
    "poisson_nll": lambda y: F.poisson_nll_loss(y, HALF),
    "hinge_embedding": lambda y: F.hinge_embedding_loss(y, SIGNS),
    "soft_margin": lambda y: F.soft_margin_loss(y, SIGNS),
    "multi_margin": lambda y: F.multi_margin_loss(y, CLASSES),
    "multilabel_soft_margin": lambda y: F.multilabel_soft_margin_loss(y, HALF),
    "margin_ranking": lambda y: F.margin_ranking_loss(y[:, 0], y[:, 1], PAIR, margin=0.5),
    "cosine_embedding": lambda y: F.cosine_embedding_loss(y, y.roll(1, 0) * 2, PAIR),
    "triplet": lambda y: F.triplet_margin_loss(y, y.roll(1, 0), y.roll(2, 0)),
    "dot": lambda y: (y * y).sum(),
    "sum_of_two": lambda y: F.cross_entropy(y, CLASSES) + 0.1 * y.pow(2).mean(),
}


def problems() -> list[Problem]:
    """A small network under each loss."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))

    return [
        network(f"loss/{name}", build, lambda m, x, f=f: f(m(x)), x=(4, 3), ties=name == "margin_ranking")
        for name, f in LOSSES.items()
    ]
