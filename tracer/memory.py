"""How much memory a trace takes, and how much there is: said before a step starts, not by an out-of-memory kill in it."""

from __future__ import annotations

import os
from pathlib import Path

from gradtrace.tracer.errors import BudgetError


def check_memory(leaf_scalars: int, operator_scalars: int, values: bool) -> None:
    """Refuse a step whose trace cannot fit.

    Args:
        leaf_scalars, operator_scalars: scalars of the leaves and of the operators' outputs.
        values: whether maxprod is traced, which works in float64.

    Raises:
        BudgetError: the least that it takes is more than there is.
    """
    least, there_is = least_bytes(leaf_scalars, operator_scalars, values), available()
    if there_is is not None and least > there_is:
        raise BudgetError(
            f"Tracing this step takes at least {least / 2**30:.1f} GiB ({leaf_scalars:,} scalars of parameters, "
            f"{operator_scalars:,} of operators), and {there_is / 2**30:.1f} GiB are free. "
            f"Trace a smaller batch or sequence{', or greedy alone' if values else ''}, or use a machine with more memory."
        )


def least_bytes(leaf_scalars: int, operator_scalars: int, values: bool) -> int:
    """What every trace takes besides the model and its graph, in bytes; visited scalars come on top.

    By scalar: 4 for its number and 4 for its slot. Of leaves: 4 each for gradient, best candidate, its id and its use. Of
    operators: 4 for the gradient, which a plain backward would have freed. maxprod: 24 for the recursion over all scalars,
    and gradients once more in float64.
    """
    scalars = leaf_scalars + operator_scalars
    return 8 * scalars + 16 * leaf_scalars + 4 * operator_scalars + (32 * scalars if values else 0)


def available() -> int | None:
    """Bytes that this process can still take, or None where the system does not say (then nothing is refused)."""
    known = [n for n in (_free(), _left_of_group()) if n is not None]
    return min(known) if known else None


def _free() -> int | None:
    """Memory that can be had without swapping (Linux), else all memory there is."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _left_of_group() -> int | None:
    """What the control group's limit leaves (Linux, as in a container), page cache counted as free."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        stats = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - int((group / "memory.current").read_text()) + int(stats.get("inactive_file", 0))
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None
