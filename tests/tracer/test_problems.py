"""Every problem, in both modes, against the oracle."""

from __future__ import annotations

import pytest

from tests.problems import Problem, everything
from tests.tracer.judging import MODES, judge
from tests.tracer.oracles import oracle_of


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("problem", everything(), ids=lambda p: p.name)
def test_trace_is_exact(problem: Problem, mode: str) -> None:
    findings = judge(problem.make, oracle_of(problem), (mode,), problem.tolerance, problem.regions)
    assert not findings, "\n".join(findings[:12])


@pytest.mark.parametrize(
    "name", ["net/block", "recurrent/language", "loss/mse_both", "write/slice_write", "shared/highway"]
)
def test_both_modes_in_one_backward(name: str) -> None:
    problem = next(p for p in everything() if p.name == name)
    findings = judge(problem.make, oracle_of(problem), MODES, problem.tolerance, problem.regions)
    assert not findings, "\n".join(findings[:12])
