"""`maxtimes`: the (max, ×) matrix product with argmax, compiled and in plain torch."""

from __future__ import annotations

import numpy as np
import torch

from gradtrace.tracer.kernels.compiled import entry
from gradtrace.tracer.kernels.rowmax import row_max

BLOCK = 512
"""Columns worked on at a time: a block of running maxima and indices fits the first-level cache."""


def maxtimes(a: torch.Tensor, b: torch.Tensor, *, values: bool = True) -> tuple[torch.Tensor | None, torch.Tensor]:
    """For every (m, n): the largest |a[k, m] * b[k, n]| over k, and the k that attains it.

    Args:
        a: [K, M], float32 or float64 (half types are widened to float32), any strides.
        b: [K, N], the same dtype.
        values: whether the maxima themselves are wanted.

    Returns:
        (value [M, N] or None, index int32 [M, N]). Ties go to the lowest k, judged on the rounded product; the index is
        -1 where the maximum is 0. NaN and ±inf (as entries or as products) never win.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[0] or a.dtype != b.dtype:
        raise ValueError(
            f"maxtimes takes a [K, M] and b [K, N] of one dtype, not {tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}."
        )
    if a.dtype in (torch.float16, torch.bfloat16):
        a, b = a.float(), b.float()
    if a.device.type != "cpu":
        value, index = maxtimes_reference(a, b)
        return (value if values else None), index
    A, B = _magnitudes(a), _magnitudes(b)
    value_out = np.empty((A.shape[1], B.shape[1]), A.dtype)
    index_out = np.empty(value_out.shape, np.int32)
    wide = np.empty(BLOCK, np.int32 if A.dtype == np.float32 else np.int64)
    _product(A, B, value_out, index_out, wide, np.finfo(A.dtype).max)
    return (torch.from_numpy(value_out) if values else None), torch.from_numpy(index_out)


def maxtimes_reference(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain torch, for any device and for checking; memory O(M·N·chunk)."""
    a, b = _clean(a.abs()), _clean(b.abs())
    value = a.new_zeros(a.shape[1], b.shape[1])
    index = torch.full(value.shape, -1, dtype=torch.int32, device=a.device)
    for k in range(a.shape[0]):
        product = a[k][:, None] * b[k][None, :]
        wins = (product > value) & product.isfinite()
        value = torch.where(wins, product, value)
        index.masked_fill_(wins, k)
    return value, index


def _clean(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.isfinite(), x, torch.zeros_like(x))


def _magnitudes(x: torch.Tensor) -> np.ndarray:
    return _clean(x.detach().abs()).contiguous().numpy()


@entry
def _product(a, b, value, index, wide, largest):
    depth, rows, columns = a.shape[0], a.shape[1], b.shape[1]
    block = wide.shape[0]
    column = np.empty(depth, a.dtype)
    ks = np.empty(depth, np.int64)
    best = np.empty(block, a.dtype)
    packed = np.empty((depth, min(block, max(columns, 1))), a.dtype)
    for start in range(0, columns, block):
        width = min(block, columns - start)
        for k in range(depth):
            packed[k, :width] = b[k, start : start + width]
        for m in range(rows):
            count = 0
            for k in range(depth):
                column[k] = a[k, m]
                if column[k] > 0:
                    ks[count] = k
                    count += 1
            row_max(column, ks, count, packed, width, best, wide)
            for n in range(width):
                if best[n] > largest:  # a product of two finite entries overflowed: again, one by one
                    best[n] = 0
                    wide[n] = -1
                    for q in range(count):
                        v = column[ks[q]] * packed[ks[q], n]
                        if v > best[n] and v <= largest:
                            best[n] = v
                            wide[n] = ks[q]
                value[m, start + n] = best[n]
                index[m, start + n] = wide[n]
