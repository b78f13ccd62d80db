"""Say so before the kernels are compiled: it takes a minute or two, once for a type of numbers, and looks like a hang."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from gradtrace.tracer.kernels import passes

log = logging.getLogger(__name__)
_told: set[np.dtype] = set()


def announce(like: np.ndarray) -> None:
    """Log that kernels for the dtype of `like` are about to be compiled, unless they are at hand in memory or on the disk."""
    if like.dtype in _told:
        return
    _told.add(like.dtype)
    if not _at_hand(passes.forward, str(like.dtype)):
        log.warning(
            "Compiling the tracing kernels for %s: a minute or two, this once; they are kept in %s.",
            like.dtype,
            _folder(passes.forward),
        )


def _at_hand(kernel: Any, dtype: str) -> bool:
    """Whether a kernel has been compiled, or is kept on the disk, for arrays of this dtype (of its last argument)."""
    try:
        kept = kernel._cache._cache_file._load_index()
        known = [*kernel.overloads, *(key[0] for key in kept)]
        return any(str(signature[-1].dtype) == dtype for signature in known)
    except (AttributeError, IndexError, KeyError, OSError, TypeError):
        return True  # a numba that keeps its cache in another way: rather say nothing than something wrong


def _folder(kernel: Any) -> str:
    return str(getattr(kernel._cache, "cache_path", "numba's cache"))
