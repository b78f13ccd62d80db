"""Small samples for the operators whose own samples in PyTorch's database cannot be judged.

Those are all too large, empty, without finite gradients, or (unpooling) write several scalars into one place.

Each function draws what the operator's own generator draws, with the same kinds of arguments, on shapes that the oracle can
judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Call = tuple[Tensor, tuple[Any, ...], dict[str, Any]]
"""First operand, further arguments, keyword arguments."""


def _floats(*shape: int, least: float = -3.0, most: float = 3.0) -> Tensor:
    return (least + (most - least) * torch.rand(shape, dtype=torch.float64)).requires_grad_()


def _powers() -> Iterator[Call]:
    """Positive bases (the second operand), where PyTorch draws negative ones and gets NaN; with and without broadcasting."""
    yield _floats(), (_floats(least=0.5),), {}
    yield _floats(4, 1), (_floats(5, least=0.5),), {}
    yield _floats(2, 3), (_floats(2, 3, least=0.5),), {}


def _resized() -> Iterator[Call]:
    image = (2, 2, 5, 7)
    for corners in (False, True):
        yield _floats(*image), (), {"output_size": (3, 3), "align_corners": corners, "scale_factors": None}
    yield _floats(*image), (), {"output_size": None, "align_corners": False, "scale_factors": [1.7, 0.9]}


def _grids() -> Iterator[Call]:
    """Bilinear, nearest and bicubic; padded by zeros, by the border and by reflection."""
    for mode in (0, 1, 2):
        yield _floats(2, 2, 4, 5), (_floats(2, 3, 4, 2, least=-1.2, most=1.2), mode, mode, mode == 1), {}


def _krons() -> Iterator[Call]:
    yield _floats(2, 3), (_floats(3, 4),), {}
    yield _floats(3), (_floats(2, 2),), {}


def _ctc() -> Iterator[Call]:
    """Labels with repeats, lengths as lists and as tensors; the blank is 0."""
    steps, batch, labels = 7, 3, 5
    long = [7, 6, 5]
    wide = [3, 2, 1]
    for reduction, lengths in (("none", list), ("mean", torch.tensor), ("sum", torch.tensor)):
        scores = torch.randn(steps, batch, labels, dtype=torch.float64).log_softmax(2).requires_grad_()
        target = torch.tensor([[1, 1, 3], [4, 2, 1], [2, 3, 3]])
        yield (
            scores,
            (target, lengths(long), lengths(wide)),
            {"reduction": reduction, "zero_infinity": reduction == "sum"},
        )


def _dropped_volumes() -> Iterator[Call]:
    yield _floats(3, 2, 2, 3), (), {"p": 0.5, "training": True}
    yield _floats(2, 4, 2, 2, 2), (), {"p": 0.5, "training": True}
    yield _floats(2, 3, 2, 2, 2), (), {"p": 0.0, "training": True}


def _dropped_features() -> Iterator[Call]:
    yield _floats(3, 4, 2, 3), (), {"p": 0.5, "training": True}
    yield _floats(2, 4, 2, 2, 2), (), {"p": 0.5, "training": True}
    yield _floats(2, 3, 2, 2, 2), (), {"p": 0.2, "training": True}


def _unfolded() -> Iterator[Call]:
    yield _floats(1, 1, 5, 5), (2, 1, 0, 1), {}
    yield _floats(2, 2, 4, 5), ((2, 3), 1, (1, 2), 2), {}
    yield _floats(2, 5, 5), (2, 2, 1, (1, 2)), {}


def _slices() -> Iterator[Call]:
    yield _floats(4, 5, 3), (_floats(2, 5, 3), 0, 1, 3, 1), {}
    yield _floats(4, 5, 3), (_floats(4, 2, 3), 1, 1, 5, 2), {}
    yield _floats(4, 5, 3), (_floats(4, 5, 3), 2, 0, 3, 1), {}


def _casts() -> Iterator[Call]:
    for copy in (False, True):
        yield _floats(2, 3, 2, 4), (torch.float64, False, copy), {"memory_format": torch.channels_last}
    yield _floats(2, 3), ("cpu", torch.float64, True, True), {"memory_format": torch.preserve_format}


def _attention() -> Iterator[Call]:
    for how in ({"is_causal": False}, {"is_causal": True}, {"is_causal": False, "attn_mask": torch.rand(3, 4)}):
        mask = {"attn_mask": how["attn_mask"].double()} if "attn_mask" in how else {}
        query, key, value = _floats(2, 2, 3, 4), _floats(2, 2, 4, 4), _floats(2, 2, 4, 4)
        yield query, (key, value), {"dropout_p": 0.0, "is_causal": how["is_causal"], **mask}


def _unpooled() -> Iterator[Call]:
    """Windows that do not overlap, so that no two maxima go to one place."""
    maxima = torch.tensor([[[[[0, 9]], [[26, 19]]]]])
    yield _floats(1, 1, 2, 1, 2), (maxima, (2, 2, 2)), {}


SMALL: dict[str, Callable[[], Iterator[Call]]] = {
    "__rpow__": _powers,
    "_upsample_bilinear2d_aa": _resized,
    "grid_sampler_2d": _grids,
    "kron": _krons,
    "nn.functional.ctc_loss": _ctc,
    "nn.functional.dropout3d": _dropped_volumes,
    "nn.functional.feature_alpha_dropout.with_train": _dropped_features,
    "nn.functional.max_unpool3d": _unpooled,
    "nn.functional.unfold": _unfolded,
    "slice_scatter": _slices,
    "to": _casts,
    "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu": _attention,
}
"""Samples by the operator's name in the database."""
