"""`maxtimes`: the (max, ×) matrix product with argmax, compiled and in plain torch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from gradtrace.tracer.kernels.compiled import entry
from gradtrace.tracer.kernels.tile import lanes_of, pack, padded, rows_max, without_overflow

BLOCK = 256
"""Columns worked on at a time: a block of the second factor fits the second-level cache."""
_ROWS = 16
"""Rows worked on at a time."""
_PARALLEL = 1 << 22
"""Products from which on the rows are shared out over PyTorch's number of threads."""


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
    A, B = a.detach().contiguous().numpy(), b.detach().contiguous().numpy()
    value_out = np.empty((A.shape[1], B.shape[1]), A.dtype)
    index_out = np.empty(value_out.shape, np.int32)
    wide = np.empty(0, np.int32 if A.dtype == np.float32 else np.int64)
    rows, largest = A.shape[1], np.finfo(A.dtype).max
    threads = torch.get_num_threads() if A.size * B.shape[1] >= _PARALLEL else 1
    if threads == 1:
        _product(A, B, 0, rows, value_out, index_out, wide, largest)
    else:
        part = max(-(-rows // threads), 1)
        with ThreadPoolExecutor(threads) as pool:
            shares = [
                pool.submit(_product, A, B, at, min(at + part, rows), value_out, index_out, wide, largest)
                for at in range(0, rows, part)
            ]
            for share in shares:
                share.result()
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


@entry
def _product(a, b, first, last, value, index, wide, largest):
    """Rows first to last of the product."""
    depth, columns = a.shape[0], b.shape[1]
    lanes = lanes_of(a)
    whole = padded(min(BLOCK, columns), lanes)
    panel, packed = np.empty((_ROWS, depth), a.dtype), np.empty(depth * whole, a.dtype)
    ks, counts = np.empty((_ROWS, depth), np.int64), np.zeros(_ROWS, np.int64)
    best, found = np.empty((_ROWS, whole), a.dtype), np.empty((_ROWS, whole), wide.dtype)
    for start in range(0, columns, BLOCK):
        span = min(BLOCK, columns - start)
        width = padded(span, lanes)
        for k in range(depth):
            line = b[k, start : start + span]
            pack(line, 0, 1, 1, span, k, depth, width, lanes, largest, packed)
        for top in range(first, last, _ROWS):
            rows = min(_ROWS, last - top)
            for k in range(depth):
                for i in range(rows):
                    factor = abs(a[k, top + i])
                    panel[i, k] = factor if factor <= largest else 0
            rows_max(panel, rows, depth, packed, width, lanes, ks, counts, best, found)
            for i in range(rows):
                without_overflow(
                    panel[i], ks[i], counts[i], packed, span, depth, width, lanes, largest, best[i], found[i]
                )
                for n in range(span):
                    value[top + i, start + n] = best[i, n]
                    index[top + i, start + n] = found[i, n]
