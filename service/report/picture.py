"""A report as one picture, for slides and papers. Drawn by matplotlib, which is an extra of the package."""

from __future__ import annotations

import importlib.util
import io
import textwrap
from typing import TYPE_CHECKING, Any

from gradtrace.service.report.compare import MEASURES
from gradtrace.service.report.model import Comparison, Report, RunReport
from gradtrace.service.report.words import EVERYWHERE
from gradtrace.tracer.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = 6
"""Components drawn."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by the colour-blind as well (Okabe & Ito)."""


def need_matplotlib() -> None:
    """Raises ReportError, with what to do, where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ReportError("A picture needs matplotlib: pip install 'gradtrace[report]'.")


def to_png(report: Report) -> bytes:
    """The picture: headline, shares over time, and win rates; of several runs the shares of each setting.

    Raises:
        ReportError: matplotlib is not installed.
    """
    need_matplotlib()
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 6.2), dpi=160, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        said = report.comparison.headline if report.comparison else report.runs[0].headline
        figure.suptitle(_plain("\n".join(textwrap.wrap(" ".join(said), 120))), x=0.01, ha="left", fontsize=11)
        if report.comparison:
            _settings(left, report.comparison, "share", "share of gradient mass in the last epoch")
            _settings(right, report.comparison, "win_rate", "forks won in the last epoch")
        else:
            _shares(left, report.runs[0])
            _forks(right, report.runs[0])
        figure.supxlabel(
            _plain(f"{report.title} · {report.mode} traces, {report.batch} batch"), fontsize=7, x=0.01, ha="left"
        )
        written = io.BytesIO()
        figure.savefig(written, format="png")
    return written.getvalue()


def _shares(axes: Axes, run: RunReport) -> None:
    telling = [c for c in run.components if min((s for s in c.share if s is not None), default=1.0) < EVERYWHERE]
    for series, colour in zip(telling[:LINES] or run.components[:LINES], COLOURS, strict=False):
        values = [float("nan") if s is None else 100 * s for s in series.share]
        axes.plot(
            run.steps, values, color=colour, label=_plain(series.component), marker="." if len(values) < 20 else ""
        )
    axes.set(ylim=(-2, 102), xlabel="step", ylabel="share of gradient mass, %")
    if run.components:
        axes.legend(frameon=False, fontsize=8)


def _forks(axes: Axes, run: RunReport) -> None:
    epochs = sorted({row["epoch"] for row in run.forks})
    rows = [row for row in run.forks if row["epoch"] == epochs[-1]][:10][::-1]
    first = {row["component"]: row["win_rate"] for row in run.forks if row["epoch"] == epochs[0]}
    for at, row in enumerate(rows):
        before, now = first.get(row["component"]), row["win_rate"]
        if before is not None:
            axes.plot([100 * before, 100 * now], [at, at], color="#999999", zorder=1)
            axes.scatter([100 * before], [at], facecolors="white", edgecolors=COLOURS[0], zorder=2)
        axes.scatter([100 * now], [at], color=COLOURS[0], zorder=3)
    if not rows:
        axes.text(0.5, 0.5, "no forks", ha="center", transform=axes.transAxes)
    axes.set_yticks(range(len(rows)), [_plain(row["component"]) for row in rows])
    axes.set(xlim=(-2, 102), xlabel="forks won, %: first epoch ○ to last ●")


def _settings(axes: Axes, comparison: Comparison, measure: str, label: str) -> None:
    assert measure in MEASURES
    components = [c for c in comparison.components if any(k[:2] == (measure, c) for k in comparison.spreads)][:LINES][
        ::-1
    ]
    shown = range(min(len(comparison.settings), len(COLOURS)))
    for at, component in enumerate(components):
        for setting in shown:
            found = comparison.spreads.get((measure, component, setting))
            if found is not None:
                y = at - 0.3 + 0.6 * (setting + 0.5) / len(shown)
                style: dict[str, Any] = {"color": COLOURS[setting], "fmt": "o", "capsize": 3}
                axes.errorbar([100 * found.mean], [y], xerr=100 * (found.deviation or 0.0), **style)
                axes.scatter([100 * v for _, v in found.values], [y] * len(found.values), s=5, color=COLOURS[setting])
    axes.set_yticks(range(len(components)), [_plain(c) for c in components])
    axes.set(xlim=(-2, 102), xlabel=f"{label}, %")
    handles = [axes.scatter([], [], color=COLOURS[s], label=_plain(comparison.settings[s])) for s in shown]
    axes.legend(handles=handles, frameon=False, fontsize=7)


def _plain(text: str) -> str:
    """Not to be read as mathematics."""
    return text.replace("$", r"\$")
