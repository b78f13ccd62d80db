"""The list of problems."""

from __future__ import annotations

from functools import cache

from tests.problems import architectures, expressions, losses, networks, recurrent, situations, writes
from tests.problems.base import Problem


@cache
def everything() -> tuple[Problem, ...]:
    """All problems, by family; names are unique."""
    found = tuple(
        p
        for family in (networks, losses, recurrent, expressions, writes, situations, architectures)
        for p in family.problems()
    )
    names = [p.name for p in found]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return found


def by_name(name: str) -> Problem:
    """One problem."""
    return next(p for p in everything() if p.name == name)
