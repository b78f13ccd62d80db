"""Makes a finding's README and drawings out of its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from .numbers import Runs, Spread
from .question import Question

FOREWORD = "<!-- Made of text.md and results.json by `python -m examples.findings {name}`; change those. -->\n\n"


def percent(value: float | Spread, digits: int = 0) -> str:
    """A fraction as a percentage (`"72 ± 5 %"`)."""
    return _spelt(value, digits, 100, " %")


def number(value: float | Spread, digits: int = 2) -> str:
    """A number (`"0.72 ± 0.05"`)."""
    return _spelt(value, digits, 1, "")


def _spelt(value: float | Spread, digits: int, times: int, unit: str) -> str:
    if not isinstance(value, Spread):
        return f"{times * value:.{digits}f}{unit}"
    if value.n == 0:
        return "–"
    half = f" ± {times * value.half:.{digits}f}" if math.isfinite(value.half) else ""
    return f"{times * value.mean:.{digits}f}{half}{unit}"


def points(value: Spread, digits: int = 0) -> str:
    """A difference of fractions (`"16 ± 5 points"`)."""
    return percent(value, digits).removesuffix(" %") + " points"


def readme(question: Question, about: Mapping[str, Any], runs: Runs) -> str:
    """The README of a finding, with all numbers in their places."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(pct=percent, num=number, points=points)
    template = environment.from_string((question.folder / "text.md").read_text(encoding="utf-8"))
    held = {**question.numbers(runs), "expectations": question.expectations(runs), "about": about}
    return FOREWORD.format(name=question.name) + template.render(**held, plan=question.plan)


def write(question: Question, about: Mapping[str, Any], runs: Runs, folder: Path) -> None:
    """README and drawings into a folder."""
    (folder / "README.md").write_text(readme(question, about, runs), encoding="utf-8")
    for name, draw in question.pictures.items():
        draw(runs, folder / name)
