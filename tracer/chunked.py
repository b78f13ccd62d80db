"""Losses that PyTorch works out in chunks, by an operator that has its gradients ready before any backward.

`linear_cross_entropy` with options hides the product, the softmax and the loss in one operator (torch 2.15). While a step is
recorded it takes the way without chunks, in which they are recorded one by one; values differ by rounding only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn import functional

_CHOICE = "_linear_cross_entropy_chunked_applies"


@contextmanager
def chunked_losses_whole() -> Iterator[None]:
    """Keep `torch.nn.functional.linear_cross_entropy` from its chunks; nothing to do in a PyTorch that has none."""
    own = getattr(functional, _CHOICE, None)
    if own is None:
        yield
        return
    setattr(functional, _CHOICE, lambda *arguments, **options: False)
    try:
        yield
    finally:
        setattr(functional, _CHOICE, own)
