"""Activation checkpointing of the reentrant kind, which hides its operators behind one that runs a backward of its own.

While a step is recorded it is run as the other kind (`use_reentrant=False`): the same operators on the same values, and the
same random numbers when they are run again, but recorded one by one. What the reentrant kind does beside that is kept: where
no input requires a gradient, nothing inside gets one, and PyTorch warns.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils import checkpoint

from gradtrace.tracer.replaced import replaced


def reentrant_written_out() -> AbstractContextManager[None]:
    """Let `torch.utils.checkpoint` record what it runs, whichever kind is asked for; its own function is back on leaving."""
    return replaced(checkpoint, "CheckpointFunction", _Recorded)


class _Recorded:
    """Stands in for `CheckpointFunction`."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *inputs: Any) -> Any:
        checkpoint.check_backward_validity(inputs)
        if not any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
            with torch.no_grad():
                return function(*inputs)
        return checkpoint.checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=preserve_rng_state)
