"""The oracles of the problems, each built once a session."""

from __future__ import annotations

from functools import cache

from tests.oracle.oracle import Oracle, consult
from tests.problems import Problem


@cache
def oracle_of(problem: Problem) -> Oracle:
    """The oracle of a problem."""
    return consult(problem.make)
