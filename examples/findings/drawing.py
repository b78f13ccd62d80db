"""What the drawings of all findings share: small SVG files, the same bytes for the same numbers and the same matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from .numbers import Spread, spread

STYLE = {
    "svg.fonttype": "none",  # text stays text: smaller, and it can be read and searched
    "svg.hashsalt": "gradtrace",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "legend.frameon": False,
    "path.simplify_threshold": 0.5,
}
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777")
"""Paul Tol's bright colours, which colour-blind people can tell apart."""


@contextmanager
def figure(
    path: Path, rows: int = 1, columns: int = 1, size: tuple[float, float] = (8.0, 2.8), **more: Any
) -> Iterator[Any]:
    """Axes to draw on; written to `path` as SVG at the end."""
    with plt.rc_context(STYLE):
        made, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **more)
        try:
            yield axes
            made.savefig(path, metadata={"Date": None, "Creator": None})
        finally:
            plt.close(made)
    # Without blanks at the ends of lines, which matplotlib leaves there.
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def band(axes: Any, steps: Sequence[int], lines: Sequence[Sequence[float | None]], color: str, label: str) -> None:
    """Mean over seeds, with the 95 % interval as a band."""
    spreads = [spread(line[i] for line in lines) for i in range(len(steps))]
    held = [(step, s) for step, s in zip(steps, spreads, strict=True) if s.n]
    xs = [step for step, _ in held]
    axes.plot(xs, [s.mean for _, s in held], color=color, label=label, linewidth=1.4)
    if all(s.n > 1 for _, s in held):
        axes.fill_between(xs, [s.low for _, s in held], [s.high for _, s in held], color=color, alpha=0.2, linewidth=0)


def dots(axes: Any, at: float, values: Sequence[float], color: str) -> None:
    """One dot a seed, and a line at their mean."""
    axes.plot([at] * len(values), values, "o", color=color, markersize=3.5, alpha=0.6, markeredgewidth=0)
    axes.plot([at - 0.25, at + 0.25], [statistics.fmean(values)] * 2, color=color, linewidth=1.8)


def error_bar(axes: Any, at: float, value: Spread, color: str, marker: str = "o") -> None:
    """A mean with its 95 % interval."""
    if value.n:
        half = value.half if value.half == value.half else 0.0
        axes.errorbar([at], [value.mean], yerr=[half], color=color, marker=marker, capsize=3, linewidth=1.2)
