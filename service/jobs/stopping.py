"""How a worker tells its processes to stop: by a byte of shared memory that they look at between two steps."""

from __future__ import annotations

import mmap
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_flag: mmap.mmap | None = None


def prepare() -> None:
    """In the worker, before it forks its processes."""
    global _flag
    _flag = mmap.mmap(-1, 1)


@contextmanager
def at_signal() -> Iterator[None]:
    """In a process of the pool, during a task: SIGTERM, as a whole process group gets it, means to stop at the next step.

    Outside of tasks it ends the process, as the pool wants it.
    """
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_all() -> None:
    """In the worker, when it is to end: its processes put their runs back."""
    if _flag is not None:
        _flag[0] = 1


def stopped() -> bool:
    """Whether this process is to stop."""
    return _flag is not None and _flag[0] == 1


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    stop_all()
