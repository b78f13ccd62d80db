"""Python's cyclic garbage collector, held back while a step is taken in."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic collection inside; as it was on leaving.

    A traced step makes some objects for every operator, and they all live until its end: the collections that their number
    sets off find nothing, and took a third of the time of a step of 1,000 layers. Reference counts work as ever.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
