"""What a question is: a plan, what was expected, what is worked out, drawn and said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .numbers import Runs
from .plan import Plan

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Expectation:
    """What was written down before the runs of the results were made, and whether it came so.

    Attributes:
        text: the expectation.
        seen: what was seen, in numbers.
        holds: whether it is so.
    """

    text: str
    seen: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One finding.

    Attributes:
        name: of its folder, which holds `text.md` (the README with places for numbers) and what is made of the results.
        plan: what is trained.
        numbers: what is worked out from the runs; what the text may name.
        expectations: what was expected.
        pictures: file name → what draws it into a path.
    """

    name: str
    plan: Plan
    numbers: Callable[[Runs], dict[str, Any]]
    expectations: Callable[[Runs], list[Expectation]]
    pictures: Mapping[str, Callable[[Runs, Path], None]]

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return HERE / self.name
