"""How a worker tells its processes to stop: by a byte of shared memory that they look at between two steps."""

from __future__ import annotations

import mmap
import signal
from types import FrameType

_flag: mmap.mmap | None = None


def prepare() -> None:
    """In the worker, before it forks its processes."""
    global _flag
    _flag = mmap.mmap(-1, 1)


def in_child() -> None:
    """In a process of the pool: SIGTERM, as a whole process group gets it, means to stop at the next step's border too."""
    signal.signal(signal.SIGTERM, _on_signal)


def stop_all() -> None:
    """In the worker, when it is to end: its processes put their runs back."""
    if _flag is not None:
        _flag[0] = 1


def stopped() -> bool:
    """Whether this process is to stop."""
    return _flag is not None and _flag[0] == 1


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    stop_all()
