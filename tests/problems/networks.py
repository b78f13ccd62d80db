"""Feed-forward models: activations, norms, residuals, embeddings, attention, convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tests.problems.base import Problem, network, weigh

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": lambda: nn.CELU(0.7),
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardshrink": nn.Hardshrink,
    "softshrink": nn.Softshrink,
    "logsigmoid": nn.LogSigmoid,
    "softsign": nn.Softsign,
    "prelu": nn.PReLU,
    "prelu_channels": lambda: nn.PReLU(4),
    "relu6": nn.ReLU6,
    "tanhshrink": nn.Tanhshrink,
    "threshold": lambda: nn.Threshold(0.1, 20.0),
    "softmax": lambda: nn.Softmax(dim=-1),
    "log_softmax": lambda: nn.LogSoftmax(dim=-1),
    "softmin": lambda: nn.Softmin(dim=-1),
    "glu": lambda: nn.GLU(),
    "dropout": lambda: nn.Dropout(0.4),
    "dropout_none": lambda: nn.Dropout(0.0),
    "dropout_fused": lambda: FusedDropout(),  # what a GPU records
    "alpha_dropout": lambda: nn.AlphaDropout(0.3),
    "layer_norm": lambda: nn.LayerNorm(4),
    "layer_norm_plain": lambda: nn.LayerNorm(4, elementwise_affine=False),
    "layer_norm_no_bias": lambda: nn.LayerNorm(4, bias=False),
    "rms_norm": lambda: nn.RMSNorm(4),
    "batch_norm": lambda: nn.BatchNorm1d(4),
    "group_norm": lambda: nn.GroupNorm(2, 4),
}

TARGET = torch.tensor([0, 2, 1, 0])


def mlp(activation: Callable[[], nn.Module], wide: int = 4) -> nn.Module:
    """Three linear layers with the activation twice."""
    first = activation()
    half = isinstance(first, nn.GLU)
    return nn.Sequential(
        nn.Linear(3, wide * (2 if half else 1)), first, nn.Linear(wide, wide * (2 if half else 1)), activation(),
        nn.Linear(wide, 3),
    )  # fmt: skip


class FusedDropout(nn.Module):
    """Dropout as a GPU records it, in one operator."""

    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = torch.native_dropout(x, 0.4, True)[0]
        return kept


class Residual(nn.Module):
    """Two residual blocks with layer norms in front."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(3) for _ in range(2))
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)) for _ in range(2))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.head(x)


class Block(nn.Module):
    """A small transformer block written out."""

    def __init__(self, d: int = 4, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))

    def attend(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(x).split(d, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm(x))
        return x + self.mlp(x)


class Tied(nn.Module):
    """Embedding and output projection share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.hidden = nn.Linear(3, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.tanh(self.hidden(self.embed(tokens))))


class SharedStorage(nn.Module):
    """Three parameters over one storage, one of them of another shape."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3, dtype=torch.float64)
        self.outer = nn.Linear(3, 3, bias=False, dtype=torch.float64)
        self.outer.weight = nn.Parameter(self.inner.weight.data)
        self.flat = nn.Parameter(self.inner.weight.data.view(9))

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x))) * self.flat[:3]


class Tokens(nn.Module):
    """An embedding of fixed tokens under a linear layer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 3, **kwargs)
        self.head = nn.Linear(3, 4)

    def forward(self) -> Tensor:
        return self.head(self.embed(torch.tensor([[1, 2, 1], [0, 1, 4]])))


class Positions(nn.Module):
    """Token and position embeddings added, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(5, 3)
        self.place = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 5)

    def forward(self) -> Tensor:
        x = self.token(torch.tensor([[1, 2, 1], [0, 1, 4]])) + self.place(torch.arange(3))
        return self.head(x)


class Reused(nn.Module):
    """One layer called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.core(x))
        return x


class Unused(nn.Module):
    """One layer that is never called, one that is frozen, one that is used."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(torch.tanh(self.used(x)))


class Dead(nn.Module):
    """Everything behind a ReLU that lets nothing through."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)
        with torch.no_grad():
            self.first.bias.fill_(-100.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def problems() -> list[Problem]:
    """Feed-forward problems."""
    found = [
        network(f"activation/{name}", lambda a=a: mlp(a), lambda m, x: F.cross_entropy(m(x), TARGET))
        for name, a in ACTIVATIONS.items()
    ]
    found += [
        network("net/mlp", lambda: mlp(nn.Tanh), lambda m, x: F.mse_loss(m(x), torch.ones(4, 3).double())),
        network("net/deep", lambda: nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(8)]),
                lambda m, x: weigh(m(x)), x=(2, 3)),
        network("net/bare_vector", lambda: mlp(nn.ReLU), lambda m, x: weigh(m(x)), x=(3,)),
        network("net/three_dims", lambda: mlp(nn.Tanh), lambda m, x: weigh(m(x)), x=(2, 3, 3)),
        network("net/bilinear", lambda: nn.Bilinear(3, 3, 2), lambda m, x: weigh(m(x, x)), x=(2, 3)),
        network("net/residual", Residual, lambda m, x: F.cross_entropy(m(x), torch.tensor([0, 1])), x=(2, 3)),
        network("net/block", Block, lambda m, x: weigh(m(x)), x=(1, 3, 4)),
        network("net/multihead", lambda: nn.MultiheadAttention(4, 2, batch_first=True),
                lambda m, x: weigh(m(x, x, x, need_weights=False)[0]), x=(1, 3, 4)),
        network("net/multihead_weights", lambda: nn.MultiheadAttention(4, 2),
                lambda m, x: weigh(m(x, x, x)[0]), x=(3, 1, 4)),
        network("net/encoder_layer", lambda: nn.TransformerEncoderLayer(4, 2, 4, dropout=0.1, batch_first=True),
                lambda m, x: weigh(m(x)), x=(1, 3, 4)),
        network("net/tied", Tied, lambda m, x: F.cross_entropy(m(torch.tensor([1, 3, 1])), torch.tensor([3, 1, 0]))),
        network("net/shared_storage", SharedStorage, lambda m, x: weigh(m(x)), x=(2, 3)),
        network("net/embedding", Tokens, lambda m, x: weigh(m())),
        network("net/embedding_padding", lambda: Tokens(padding_idx=1), lambda m, x: weigh(m())),
        network("net/embedding_freq", lambda: Tokens(scale_grad_by_freq=True), lambda m, x: weigh(m())),
        network("net/positions", Positions, lambda m, x: weigh(m())),
        network("net/embedding_bag", lambda: nn.EmbeddingBag(5, 3, mode="sum"),
                lambda m, x: weigh(m(torch.tensor([[1, 2], [1, 0]])))),
        network("net/reused", Reused, lambda m, x: weigh(m(x)), x=(2, 3)),
        network("net/unused", Unused, lambda m, x: weigh(m(x)), x=(2, 3)),
        network("net/dead", Dead, lambda m, x: weigh(m(x)), x=(2, 3)),
        network("net/layer_norm_2d", lambda: nn.LayerNorm([3, 4]), lambda m, x: weigh(m(x) ** 2), x=(2, 3, 4)),
        network("net/conv1d",
                lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv1d(3, 2, 2, stride=2)),
                lambda m, x: weigh(m(x)), x=(2, 2, 5)),
        network("net/conv2d", lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(8, 2)), lambda m, x: weigh(m(x)), x=(1, 1, 4, 4)),
        network("net/weight_norm", lambda: nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.Tanh(),
                weight_norm(nn.Linear(4, 2), dim=1)), lambda m, x: weigh(m(x)), x=(2, 3)),
        network("net/weight_norm_whole", lambda: weight_norm(nn.Linear(3, 2), dim=None),
                lambda m, x: weigh(m(x)), x=(2, 3)),
        network("net/weight_norm_conv", lambda: nn.Sequential(weight_norm(nn.Conv1d(2, 3, 3, padding=1)), nn.ReLU(),
                weight_norm(nn.ConvTranspose1d(3, 2, 2))), lambda m, x: weigh(m(x)), x=(1, 2, 5)),
        network("net/fold", lambda: nn.Sequential(nn.Unfold(2), nn.Tanh(), nn.Fold((3, 4), 2), nn.Linear(4, 2)),
                lambda m, x: weigh(m(x)), x=(1, 1, 3, 4)),
        network("net/conv2d_groups", lambda: nn.Sequential(nn.Conv2d(2, 4, 2, groups=2, dilation=2), nn.AvgPool2d(2)),
                lambda m, x: weigh(m(x)), x=(1, 2, 4, 4)),
        network("net/conv_transpose", lambda: nn.ConvTranspose1d(2, 2, 3, stride=2),
                lambda m, x: weigh(m(x)), x=(1, 2, 3)),
        network("net/max_pool1d", lambda: nn.Sequential(nn.Linear(6, 6), nn.MaxPool1d(2)),
                lambda m, x: weigh(m(x)), x=(2, 6)),
    ]  # fmt: skip
    return found
