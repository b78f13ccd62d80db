"""PyTorch's operator database against the oracle, and the table that is made of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.operators_table import HEAD, run
from tests.problems.operators import database

TABLE = Path(__file__).parents[2] / "docs" / "operators.md"
NAMES = list(database())
TENTH = sorted(random.Random(5).sample(NAMES, len(NAMES) // 10))
REST = [name for name in NAMES if name not in set(TENTH)]


def rows() -> dict[str, str]:
    """Lines of the table by operator."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}


def check(name: str) -> None:
    row = run(name)
    assert not row.findings, "\n".join(row.findings[:12])
    assert rows()[name] == row.line()


@pytest.mark.parametrize("name", TENTH)
def test_operator_is_exact_and_its_row_true(name: str) -> None:
    check(name)


@pytest.mark.full
@pytest.mark.parametrize("name", REST)
def test_every_other_operator_is_exact_and_its_row_true(name: str) -> None:
    check(name)


def test_the_table_has_every_operator() -> None:
    assert TABLE.read_text(encoding="utf-8").startswith(HEAD)
    assert set(NAMES) | {"operator", "---"} >= set(rows()) >= set(NAMES)


def test_nearly_all_operators_are_judged() -> None:
    unjudged = [name for name, line in rows().items() if "not judged" in line]
    assert len(unjudged) <= 11, unjudged
