"""Every problem, in both modes, against the oracle."""

from __future__ import annotations

import pytest

from gradtrace.tracer import trace
from gradtrace.tracer.errors import UntraceableOperatorError
from tests.problems import Problem, everything
from tests.tracer.judging import MODES, judge
from tests.tracer.oracles import oracle_of

REFUSED = {"write/slice_add", "write/slice_mul"}
"""Arithmetic in place on a part of a tensor: refused with the way out, until it is traced."""


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_arithmetic_in_place_on_a_part_is_refused(name: str) -> None:
    problem = next(p for p in everything() if p.name == name)
    model, loss = problem.make(0)
    with pytest.raises(UntraceableOperatorError, match="in place by arithmetic"):
        trace(loss, model)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("problem", [p for p in everything() if p.name not in REFUSED], ids=lambda p: p.name)
def test_trace_is_exact(problem: Problem, mode: str) -> None:
    findings = judge(problem.make, oracle_of(problem), (mode,), problem.tolerance)
    assert not findings, "\n".join(findings[:12])


@pytest.mark.parametrize(
    "name", ["net/block", "recurrent/language", "loss/mse_both", "write/slice_write", "shared/highway"]
)
def test_both_modes_in_one_backward(name: str) -> None:
    problem = next(p for p in everything() if p.name == name)
    findings = judge(problem.make, oracle_of(problem), MODES, problem.tolerance)
    assert not findings, "\n".join(findings[:12])
