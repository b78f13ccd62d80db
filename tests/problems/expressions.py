"""One expression each: movement in every form, broadcasting, reductions, contractions, choices."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.problems.base import Problem, expression, weigh

Op = Callable[[Tensor], Tensor]

MOVES: dict[str, Op] = {
    "none": lambda y: y,
    "reshape": lambda y: y.reshape(2, 6),
    "view_flatten": lambda y: y.view(-1).unflatten(0, (6, 2)).flatten(),
    "transpose": lambda y: y.T.T.T,
    "permute": lambda y: y.reshape(3, 2, 2).permute(2, 0, 1),
    "movedim": lambda y: y.reshape(3, 2, 2).movedim(0, 2).swapaxes(0, 1),
    "contiguous": lambda y: y.T.contiguous().T,
    "clone": lambda y: y.clone().clone(),
    "unsqueeze": lambda y: y[None, :, None].squeeze(),
    "expand": lambda y: y[:, None].expand(3, 2, 4),
    "broadcast_to": lambda y: torch.broadcast_to(y[0], (3, 4)),
    "repeat": lambda y: y.repeat(2, 1),
    "tile": lambda y: torch.tile(y, (1, 2)),
    "repeat_interleave": lambda y: y.repeat_interleave(2, 0),
    "flip": lambda y: y.flip(0, 1),
    "roll": lambda y: y.roll(1, 0).roll((1, 2), (0, 1)),
    "rot90": lambda y: torch.rot90(y),
    "pad": lambda y: F.pad(y, (1, 2, 0, 1), value=0.5),
    "pad_circular": lambda y: F.pad(y[None], (1, 1), mode="circular"),
    "pad_reflect": lambda y: F.pad(y[None], (1, 1), mode="reflect"),
    "pad_negative": lambda y: F.pad(y, (-1, 0)),
    "diagonal": lambda y: y.diagonal(),
    "diag_embed": lambda y: torch.diag_embed(y[0]),
    "diag": lambda y: torch.diag(y[0]),
    "tril": lambda y: torch.tril(y),
    "triu": lambda y: y.triu(1),
    "cat": lambda y: torch.cat([y, y.roll(1, 0), y[:1]], 0),
    "cat_constant": lambda y: torch.cat([y, torch.ones(2, 4, dtype=y.dtype)]),
    "stack": lambda y: torch.stack([y, y.flip(0)], 1),
    "hstack": lambda y: torch.hstack([y[:, :2], y[:, 1:]]),
    "split": lambda y: torch.cat(y.split([1, 3], 1)[::-1], 1),
    "chunk": lambda y: y.chunk(2, 1)[1] + 0 * y.chunk(2, 1)[0].detach(),
    "unbind": lambda y: torch.stack(y.unbind(1)[::-1]),
    "select": lambda y: y.select(0, 1),
    "slices": lambda y: y[::2, 1:],
    "slice_negative": lambda y: y[-2:, -3:-1],
    "narrow": lambda y: y.narrow(1, 1, 2),
    "gather": lambda y: y.gather(1, torch.tensor([[0, 0, 3], [1, 2, 2], [3, 3, 3]])),
    "take_along_dim": lambda y: y.take_along_dim(torch.tensor([[1, 2, 0, 0]]), 0),
    "index": lambda y: y[torch.tensor([0, 2, 2, 1]), torch.tensor([3, 3, 3, 0])],
    "index_mixed": lambda y: y[:, torch.tensor([1, 1])],
    "index_bool": lambda y: y[torch.tensor([True, False, True])],
    "index_select": lambda y: y.index_select(1, torch.tensor([2, 2, 0])),
    "masked_select": lambda y: y.masked_select(torch.arange(12).reshape(3, 4) % 3 == 0),
    "take": lambda y: y.take(torch.tensor([0, 5, 5, 11])),
    "unfold": lambda y: y.unfold(1, 2, 1),
    "unfold2d": lambda y: F.unfold(y[None, None], 2),
    "as_strided": lambda y: y.contiguous().as_strided((2, 3), (1, 2)),
    "where_mask": lambda y: torch.where(torch.arange(12).reshape(3, 4) % 2 == 0, y, y.roll(1, 1)),
    "where_computed": lambda y: torch.where(y > 0, y, y.roll(1, 1)),
    "where_constant": lambda y: torch.where(y > 0, y, 0.0),
    "masked_fill": lambda y: y.masked_fill(torch.arange(4) == 1, -2.0),
    "scatter": lambda y: torch.zeros(3, 6, dtype=y.dtype).scatter(1, torch.tensor([[5, 1, 2, 0]] * 3), y),
    "scatter_over": lambda y: y.scatter(0, torch.tensor([[2, 1, 0, 0]]), y[:1] * 3),
    "index_copy": lambda y: y.index_copy(0, torch.tensor([2, 0]), y[1:] * 2),
    "index_put": lambda y: y.index_put((torch.tensor([1]), torch.tensor([2])), y[0, 0] * 2),
    "masked_scatter": lambda y: y.masked_scatter(torch.arange(12).reshape(3, 4) % 5 == 0, y[:, 0] * 2),
    "select_scatter": lambda y: y.select_scatter(y[1] * 2, 0, 2),
    "slice_scatter": lambda y: y.slice_scatter(y[:, :2] * 2, 1, 1, 3),
    "diagonal_scatter": lambda y: y.diagonal_scatter(y[:, 0] * 2),
    "pixel_shuffle": lambda y: F.pixel_shuffle(y.reshape(1, 4, 1, 3), 2),
    "meshgrid": lambda y: torch.meshgrid(y[0], y[:, 0], indexing="ij")[0],
    "cast": lambda y: y.float().double(),
    "detach_part": lambda y: y + y.detach(),
    "view_chain": lambda y: y.T.reshape(2, 6).flip(1)[:, 1:].transpose(0, 1).contiguous().view(-1)[::2],
}

BROADCASTS: dict[str, tuple[dict[str, tuple[int, ...]], Callable[[Any], Tensor]]] = {
    "row": ({"a": (3, 4), "b": (4,)}, lambda m: m.a * m.b),
    "column": ({"a": (3, 4), "b": (3, 1)}, lambda m: m.a + m.b * m.a),
    "both": ({"a": (3, 1), "b": (1, 4)}, lambda m: m.a / (m.b * m.b + 1)),
    "scalar": ({"a": (3, 4), "b": ()}, lambda m: m.a * m.b - m.b),
    "three": ({"a": (2, 1, 3), "b": (4, 1)}, lambda m: torch.tanh(m.a * m.b)),
    "one_element": ({"a": (3, 4), "b": (1, 1)}, lambda m: (m.a * m.a) ** (m.b * m.b)),
    "add_bias": ({"a": (3, 4), "b": (4,)}, lambda m: torch.sigmoid(m.a + m.b)),
    "sub_alpha": ({"a": (3, 4), "b": (4,)}, lambda m: torch.sub(m.a, m.b, alpha=3)),
    "lerp": ({"a": (3, 4), "b": (4,)}, lambda m: torch.lerp(m.a, m.b, torch.sigmoid(m.b))),
    "addcmul": ({"a": (3, 4), "b": (4,)}, lambda m: torch.addcmul(m.a, m.b, m.a, value=0.5)),
    "addcdiv": ({"a": (3, 4), "b": (4,)}, lambda m: torch.addcdiv(m.a, m.b, m.a * m.a + 1)),
    "maximum": ({"a": (3, 4), "b": (4,)}, lambda m: torch.maximum(m.a, m.b)),
    "atan2": ({"a": (3, 4), "b": (4,)}, lambda m: torch.atan2(m.a, m.b)),
    "where": ({"a": (3, 4), "b": (4,)}, lambda m: torch.where(torch.arange(4) > 1, m.a, m.b)),
}

REDUCTIONS: dict[str, Op] = {
    "sum": lambda y: y.sum(),
    "sum_dim": lambda y: y.sum(1),
    "sum_keep": lambda y: y.sum(0, keepdim=True) * y,
    "sum_one": lambda y: y[:, :1].sum(1),
    "mean_dims": lambda y: y.reshape(3, 2, 2).mean((0, 2)),
    "prod": lambda y: y.prod(),
    "prod_dim": lambda y: y.prod(1),
    "amax": lambda y: y.amax(1),
    "amin_all": lambda y: y.amin(),
    "max_dim": lambda y: y.max(1)[0],
    "max_all": lambda y: y.max(),
    "min_dim": lambda y: y.min(0, keepdim=True)[0],
    "median": lambda y: y.median(1)[0],
    "kthvalue": lambda y: y.kthvalue(2, 1)[0],
    "logsumexp": lambda y: y.logsumexp(1),
    "std": lambda y: y.std(1),
    "var": lambda y: y.var(),
    "var_mean": lambda y: torch.cat(torch.var_mean(y, 1)),
    "aminmax": lambda y: torch.cat(torch.aminmax(y, dim=1)),
    "aminmax_keep": lambda y: torch.cat(torch.aminmax(y, dim=0, keepdim=True)) * y[:2],
    "aminmax_all": lambda y: torch.stack(torch.aminmax(y)),
    "aminmax_one": lambda y: torch.aminmax(y, dim=1).max,
    "norm": lambda y: y.norm(),
    "norm_dim": lambda y: y.norm(dim=1),
    "norm_one": lambda y: y.norm(p=1, dim=1),
    "norm_three": lambda y: torch.linalg.vector_norm(y, 3, dim=0),
    "cumsum": lambda y: y.cumsum(1),
    "cumprod": lambda y: y.cumprod(0),
    "cumprod_middle": lambda y: y.reshape(3, 2, 2).cumprod(1),
    "cumprod_zeros": lambda y: (y * (y > -0.5)).cumprod(-1),
    "cumprod_picked": lambda y: y[:, torch.tensor([1, 1, 0])].cumprod(1),
    "cummax": lambda y: y.cummax(1)[0],
    "logcumsumexp": lambda y: y.logcumsumexp(1),
    "logcumsumexp_first": lambda y: y.logcumsumexp(0),
    "sort": lambda y: y.sort(1)[0],
    "topk": lambda y: y.topk(2, 1)[0],
    "softmax_first": lambda y: y.softmax(0),
    "softmax_middle": lambda y: y.reshape(3, 2, 2).softmax(1),
    "log_softmax_first": lambda y: y.log_softmax(0),
    "normalize": lambda y: F.normalize(y, dim=1),
    "cosine": lambda y: F.cosine_similarity(y, y.roll(1, 0) + 0.3, dim=1),
    "cdist": lambda y: torch.cdist(y, y + 1),
    "trace": lambda y: y.diagonal().sum(),
    "renorm_centre": lambda y: (y - y.mean(0)) / (y.std(0) + 1e-3),
    "det": lambda y: torch.det(y[:, :3]),
    "inverse": lambda y: torch.inverse(y[:, :3] + 3 * torch.eye(3, dtype=y.dtype)),
}

PLACES = torch.tensor([[0, 2, 2, 0], [2, 2, 0, 0], [2, 0, 0, 0]])
LENGTHS = torch.tensor([1, 0, 2])


def _index_reduce(y: Tensor, dim: int, index: Tensor, source: Tensor, how: str, own: bool) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is in beta, PyTorch says
        return y.index_reduce(dim, index, source, how, include_self=own)


SCATTERED: dict[str, Op] = {
    **{
        f"scatter_{how}{'' if own else '_alone'}": lambda y, how=how, own=own: (
            y.flip(0).scatter_reduce(0, PLACES, y, how, include_self=own)
        )
        for how in ("sum", "mean", "prod", "amax", "amin")
        for own in (True, False)
    },
    "scatter_source": lambda y: torch.ones(3, 4, dtype=y.dtype).scatter_reduce(1, PLACES, y, "mean"),
    "scatter_base": lambda y: y.scatter_reduce(1, PLACES, torch.linspace(-2, 2, 12).double().view(3, 4), "amax"),
    "scatter_few": lambda y: y.flip(1).scatter_reduce(1, PLACES[:, :2], y[:, 1:3], "prod"),
    "scatter_picked": lambda y: y.scatter_reduce(0, PLACES, y[:, torch.tensor([3, 3, 0, 1])], "mean"),
    "scatter_zeros": lambda y: y.scatter_reduce(0, PLACES, y * (y > 0), "prod"),
    **{
        f"index_{how}{'' if own else '_alone'}": lambda y, how=how, own=own: (
            _index_reduce(y, 1, torch.tensor([2, 0, 2]), y[:, 1:] * 2, how, own)
        )
        for how in ("mean", "prod", "amax", "amin")
        for own in (True, False)
    },
    "index_base": lambda y: _index_reduce(y, 0, torch.tensor([1, 1]), torch.ones(2, 4).double() / 3, "prod", True),
    **{
        f"segment_{how}": lambda y, how=how: torch.segment_reduce(y, how, lengths=LENGTHS, initial=0.25)
        for how in ("sum", "mean", "prod", "max", "min")
    },
    "segment_offsets": lambda y: torch.segment_reduce(y, "mean", offsets=torch.tensor([0, 2, 2, 3]), initial=0.5),
    "segment_columns": lambda y: torch.segment_reduce(
        y[..., None] * torch.tensor([1.0, -2.0]).double(), "max", axis=1,
        lengths=torch.tensor([[1, 3], [4, 0], [2, 2]]), initial=-0.1,
    ),
    "segment_picked": lambda y: torch.segment_reduce(y[torch.tensor([2, 0, 2])], "sum", lengths=LENGTHS),
}  # fmt: skip
"""Reductions into places that indices name."""

FOLDS: dict[str, tuple[tuple[int, ...], Op]] = {
    "overlapping": ((1, 4, 12), lambda y: F.fold(y, (4, 5), 2)),
    "apart": ((2, 8, 6), lambda y: F.fold(y, (4, 6), 2, stride=2)),
    "padded": ((1, 12, 4), lambda y: F.fold(y, (3, 3), (2, 3), padding=1, stride=2)),
    "dilated": ((1, 4, 6), lambda y: F.fold(y, (4, 5), 2, dilation=2)),
    "single": ((4, 12), lambda y: F.fold(y, (4, 5), 2)),
    "gaps": ((1, 4, 4), lambda y: F.fold(y, (5, 5), 2, stride=3)),
    "picked": ((4, 12), lambda y: F.fold(y[:, torch.arange(12).flip(0) // 2], (4, 5), 2)),
    "unfolded": ((1, 1, 4, 4), lambda y: F.fold(torch.tanh(F.unfold(y, 3, padding=1)), (4, 4), 3, padding=1)),
}
"""Blocks summed into an image."""

RESIZES: dict[str, Op] = {
    "bicubic": lambda y: F.interpolate(y, scale_factor=(1.7, 0.6), mode="bicubic"),
    "bicubic_corners": lambda y: F.interpolate(y, (3, 7), mode="bicubic", align_corners=True),
    "bilinear_antialias": lambda y: F.interpolate(y, (2, 6), mode="bilinear", antialias=True),
    "bicubic_antialias": lambda y: F.interpolate(y, (2, 3), mode="bicubic", antialias=True),
    "one_wide": lambda y: F.interpolate(y[..., :1], (6, 1), mode="bicubic", antialias=True),
}
"""Interpolation by more than the nearest two."""

CONTRACTIONS: dict[str, tuple[dict[str, tuple[int, ...]], Callable[[Any], Tensor]]] = {
    "mm": ({"a": (2, 3), "b": (3, 4)}, lambda m: m.a @ m.b),
    "mm_self": ({"a": (3, 3)}, lambda m: m.a @ m.a),
    "mm_transposed": ({"a": (3, 2), "b": (4, 3)}, lambda m: m.a.T @ m.b.T),
    "mv": ({"a": (2, 3), "b": (3,)}, lambda m: m.a @ m.b),
    "vm": ({"a": (2,), "b": (2, 3)}, lambda m: m.a @ m.b),
    "dot": ({"a": (3,), "b": (3,)}, lambda m: m.a @ m.b),
    "outer": ({"a": (3,), "b": (2,)}, lambda m: torch.outer(m.a, m.b)),
    "addmm": ({"a": (2, 3), "b": (3, 4), "c": (4,)}, lambda m: torch.addmm(m.c, m.a, m.b, beta=0.5, alpha=2.0)),
    "addmv": ({"a": (2, 3), "b": (3,), "c": (2,)}, lambda m: torch.addmv(m.c, m.a, m.b)),
    "bmm": ({"a": (2, 2, 3), "b": (2, 3, 2)}, lambda m: torch.bmm(m.a, m.b)),
    "baddbmm": ({"a": (2, 2, 3), "b": (2, 3, 2), "c": (2,)}, lambda m: torch.baddbmm(m.c, m.a, m.b)),
    "addbmm": ({"a": (2, 2, 3), "b": (2, 3, 2), "c": (2, 2)}, lambda m: torch.addbmm(m.c, m.a, m.b)),
    "matmul_broadcast": ({"a": (2, 2, 3), "b": (3, 2)}, lambda m: torch.matmul(m.a, m.b)),
    "matmul_batches": ({"a": (2, 1, 2, 3), "b": (2, 3, 2)}, lambda m: torch.matmul(m.a, m.b)),
    "einsum": ({"a": (2, 3, 2), "b": (2, 3)}, lambda m: torch.einsum("bij,bi->bj", m.a, m.b)),
    "einsum_three": ({"a": (2, 3), "b": (3, 2), "c": (2, 2)}, lambda m: torch.einsum("ij,jk,kl->il", m.a, m.b, m.c)),
    "tensordot": ({"a": (2, 3, 2), "b": (3, 2, 2)}, lambda m: torch.tensordot(m.a, m.b, dims=2)),
    "linear_nd": ({"a": (2, 2, 3), "b": (4, 3), "c": (4,)}, lambda m: F.linear(m.a, m.b, m.c)),
    "kron": ({"a": (2, 2), "b": (2, 1)}, lambda m: torch.kron(m.a, m.b)),
    "bilinear": ({"a": (2, 3), "b": (2, 2), "c": (2, 3, 2)}, lambda m: F.bilinear(m.a, m.b, m.c)),
    "bilinear_places": ({"a": (2, 2, 3), "b": (2, 2, 2), "c": (4, 3, 2), "d": (4,)},
                        lambda m: F.bilinear(m.a, m.b, m.c, m.d)),
    "bilinear_moved": ({"a": (3, 4), "c": (2, 3, 3)}, lambda m: F.bilinear(m.a.T, m.a.T.flip(0), m.c.mT)),
    "bilinear_vector": ({"a": (3,), "b": (2,), "c": (2, 3, 2)}, lambda m: F.bilinear(m.a, m.b, m.c)),
    "trilinear": ({"a": (2, 3), "b": (3, 2), "c": (2, 2)},
                  lambda m: torch._trilinear(m.a, m.b, m.c, [2], [0], [1], [1])),
    "attention": ({"a": (1, 3, 2), "b": (1, 3, 2), "c": (1, 3, 2)},
                  lambda m: F.scaled_dot_product_attention(m.a, m.b, m.c)),
    "shared_operand": ({"a": (3, 3), "b": (3, 3)}, lambda m: (m.a @ m.b) @ m.a.T + m.a),
}  # fmt: skip

SHARED: dict[str, tuple[dict[str, tuple[int, ...]], Callable[[Any], Tensor]]] = {
    "square": ({"a": (3,)}, lambda m: m.a * m.a),
    "cube": ({"a": (3,)}, lambda m: m.a * m.a * m.a),
    "square_views": ({"a": (3,)}, lambda m: m.a.view(1, 3) * m.a[None]),
    "reuse": ({"a": (3,), "b": (3,)}, lambda m: (t := torch.tanh(m.a * m.b)) * t + t * m.a),
    "diamond": ({"a": (3,)}, lambda m: torch.exp(t := m.a * 0.3) * torch.sin(t) + torch.cos(t)),
    "wide": ({"a": (3,)}, lambda m: sum(torch.sin(m.a * k) for k in range(1, 5))),
    "powers": ({"a": (3,)}, lambda m: m.a**2 + m.a**3),
    "power_tensor": ({"a": (3,), "b": (3,)}, lambda m: (m.a * m.a + 1) ** m.b),
    "chain": ({"a": (3,)}, lambda m: torch.sqrt(torch.exp(torch.sin(m.a).abs()) + 1).log().reciprocal().neg()),
    "rsub": ({"a": (3,)}, lambda m: (1 - torch.sigmoid(m.a)) * torch.sigmoid(m.a)),
    "plus_zero": ({"a": (3,)}, lambda m: (m.a + 0) * 1 + m.a),
    "clamp": ({"a": (4,)}, lambda m: m.a.clamp(-0.5, 0.5) + m.a.clamp_min(0.1)),
    "trigonometry": ({"a": (3,)}, lambda m: torch.atan(m.a) + torch.erf(m.a) + torch.sinh(m.a) + m.a.expm1()),
    "highway": ({"a": (3, 3), "b": (3, 3), "x": (2, 3)},
                lambda m: (g := torch.sigmoid(m.x @ m.a)) * torch.tanh(m.x @ m.b) + (1 - g) * m.x),
    "stack_sum": ({"a": (3,), "b": (3,)}, lambda m: torch.stack([m.a, m.b, m.a * m.b]).sum(0)),
    "two_outputs": ({"a": (3, 2)}, lambda m: torch.cat([t := m.a.max(0)[0], torch.var_mean(m.a, 0)[0] * t])),
    "partial_use": ({"a": (4,)}, lambda m: m.a[1:] * m.a[:-1]),
}  # fmt: skip


def problems() -> list[Problem]:
    """All expressions."""
    w = {"a": (2, 3), "b": (3, 6)}

    def move(f: Op) -> Callable[[Any], Tensor]:
        return lambda m: weigh(torch.tanh(f(m.a * m.b)) * 0.7) + weigh(f(m.a) ** 2)

    found = [
        expression(f"move/{name}", {"a": (3, 4), "b": (3, 4)}, move(f), rough=name == "cast")
        for name, f in MOVES.items()
    ]
    found += [
        expression(f"broadcast/{name}", shapes, lambda m, f=f: weigh(torch.sin(f(m))))
        for name, (shapes, f) in BROADCASTS.items()
    ]
    found += [
        expression(f"reduce/{name}", {"a": (3, 4), "b": (4,)}, lambda m, f=f: weigh(torch.sin(f(m.a * m.b))))
        for name, f in REDUCTIONS.items()
    ]
    found += [
        expression(f"scatter/{name}", {"a": (3, 4), "b": (4,)}, lambda m, f=f: weigh(torch.sin(f(m.a * m.b))))
        for name, f in SCATTERED.items()
    ]
    found += [
        expression(f"fold/{name}", {"a": shape, "b": shape[1:]}, lambda m, f=f: weigh(torch.sin(f(m.a * m.b))))
        for name, (shape, f) in FOLDS.items()
    ]
    found += [
        expression(f"resize/{name}", {"a": (1, 2, 4, 5), "b": (5,)}, lambda m, f=f: weigh(torch.sin(f(m.a * m.b))))
        for name, f in RESIZES.items()
    ]
    found += [
        expression(f"contract/{name}", shapes, lambda m, f=f: weigh(torch.tanh(f(m))))
        for name, (shapes, f) in CONTRACTIONS.items()
    ]
    found += [
        expression(f"shared/{name}", shapes, lambda m, f=f: weigh(f(m)), ties=name in TIED)
        for name, (shapes, f) in SHARED.items()
    ]
    found += [
        expression(f"norm/{name}", shapes, lambda m, f=f: weigh(torch.tanh(f(m))))
        for name, (shapes, f) in NORMS.items()
    ]
    found.append(expression("move/of_two_layers", w, lambda m: weigh((m.a @ m.b).tanh().T.reshape(4, 3)[:, 1:])))
    return found


def _batch_legit(m: Any, training: bool) -> Tensor:
    """Batch norm as it is called where the operators are to have no side effects."""
    mean, spread = torch.tensor([0.3, -0.2]).double(), torch.tensor([0.7, 1.9]).double()
    made: Tensor = torch.ops.aten._native_batch_norm_legit(m.a, m.g, m.b, mean, spread, training, 0.1, 1e-5)[0]
    return made


NORMS: dict[str, tuple[dict[str, tuple[int, ...]], Callable[[Any], Tensor]]] = {
    "batch": ({"a": (5, 3), "g": (3,), "b": (3,)}, lambda m: F.batch_norm(m.a, None, None, m.g, m.b, training=True)),
    "batch_places": ({"a": (3, 2, 2, 2), "g": (2,)}, lambda m: F.batch_norm(m.a, None, None, m.g, training=True)),
    "batch_plain": ({"a": (3, 2, 4)}, lambda m: F.batch_norm(m.a, None, None, training=True)),
    "batch_long": ({"a": (70, 2), "g": (2,)}, lambda m: F.batch_norm(m.a, None, None, m.g, training=True)),
    "batch_of_moved": (
        {"a": (4, 3, 2), "c": (2, 3, 2)}, lambda m: F.batch_norm(torch.cat([m.a, m.c]).mT, None, None, training=True),
    ),
    "instance": ({"a": (2, 3, 5), "g": (3,), "b": (3,)}, lambda m: F.instance_norm(m.a, weight=m.g, bias=m.b)),
    "group": ({"a": (2, 4, 3), "g": (4,), "b": (4,)}, lambda m: F.group_norm(m.a, 2, m.g, m.b)),
    "group_plain": ({"a": (2, 4, 2, 2)}, lambda m: F.group_norm(m.a, 4)),
    "group_long": ({"a": (1, 4, 35), "g": (4,)}, lambda m: F.group_norm(m.a, 2, m.g)),
    "batch_legit": ({"a": (3, 2, 4), "g": (2,), "b": (2,)}, lambda m: _batch_legit(m, True)),
    "batch_legit_kept": ({"a": (3, 2, 4), "g": (2,), "b": (2,)}, lambda m: _batch_legit(m, False)),
    "group_statistics": (
        {"a": (2, 4, 3), "g": (4,)},
        lambda m: torch.cat([o.reshape(-1) for o in torch.native_group_norm(m.a, m.g, None, 2, 4, 3, 2, 1e-5)]),
    ),
    "group_mean": ({"a": (2, 4, 3)}, lambda m: torch.native_group_norm(m.a, None, None, 2, 4, 3, 2, 1e-5)[1]),
    "group_spread": (
        {"a": (2, 4, 3), "g": (4,), "b": (4,)}, lambda m: torch.native_group_norm(m.a, m.g, m.b, 2, 4, 3, 2, 1e-5)[2],
    ),
    "weight": ({"a": (3, 4), "g": (3, 1)}, lambda m: torch._weight_norm(m.a, m.g, 0)),
    "weight_last": ({"a": (4, 2, 3), "g": (1, 1, 3)}, lambda m: torch._weight_norm(m.a, m.g, 2)),
    "weight_of_moved": ({"a": (4, 3), "g": (3,)}, lambda m: torch._weight_norm(m.a.sin().T, m.g[:, None] ** 2, 0)),
    "weight_kept_length": ({"a": (3, 4)}, lambda m: torch._weight_norm(m.a, torch.ones(3, 1).double(), 0)),
    "weight_length_only": ({"g": (3, 1)}, lambda m: torch._weight_norm(torch.ones(3, 4).double(), m.g, 0)),
    "layer_long": ({"a": (2, 70), "g": (70,)}, lambda m: F.layer_norm(m.a, (70,), m.g)),
}  # fmt: skip
"""Statistics of the batch; "long" rows are looked at by their envelope."""

TIED = {"square", "cube", "square_views"}
