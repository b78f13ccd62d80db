"""Losses that PyTorch works out in chunks, by an operator that has its gradients ready before any backward.

`linear_cross_entropy` with options hides the product, the softmax and the loss in one operator (torch 2.15). While a step is
recorded it takes the way without chunks, in which they are recorded one by one; values differ by rounding only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch.nn import functional

from gradtrace.tracer.replaced import replaced

_CHOICE = "_linear_cross_entropy_chunked_applies"


def chunked_losses_whole() -> AbstractContextManager[None]:
    """Keep `torch.nn.functional.linear_cross_entropy` from its chunks; nothing to do in a PyTorch that has none."""
    if not hasattr(functional, _CHOICE):
        return nullcontext()
    return replaced(functional, _CHOICE, lambda *arguments, **options: False)
