"""PyTorch's operator database against the oracle, and the table that is made of it."""

from __future__ import annotations

import random

import pytest

from tests.operators_table import TABLE, document, rows, run
from tests.problems.operator_samples import SMALL
from tests.problems.operators import database

NAMES = list(database())
TENTH = sorted(random.Random(5).sample(NAMES, len(NAMES) // 10))
OFTEN = sorted({*TENTH, *SMALL})
REST = [name for name in NAMES if name not in set(OFTEN)]


def check(name: str) -> None:
    row = run(name)
    assert not row.findings, "\n".join(row.findings[:12])
    assert rows()[name] == row.line()


@pytest.mark.parametrize("name", OFTEN)
def test_operator_is_exact_and_its_row_true(name: str) -> None:
    check(name)


@pytest.mark.full
@pytest.mark.parametrize("name", REST)
def test_every_other_operator_is_exact_and_its_row_true(name: str) -> None:
    check(name)


def test_the_table_has_every_operator_and_is_its_rows() -> None:
    assert set(rows()) == set(NAMES)
    assert TABLE.read_text(encoding="utf-8") == document(rows())


def test_every_operator_is_judged() -> None:
    ways = {line.split(" | ")[1] for line in rows().values()}
    assert ways == {"movement", "closed rule", "probed", "refused", "movement; some refused"}
