"""Random operator graphs against the oracle."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from tests.oracle.oracle import consult
from tests.oracle.traces import invariant_error
from tests.tracer.judging import MODES, judge
from tests.tracer.programs import Instruction, make, programs

BOUNDED = settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@BOUNDED
@given(programs())
def test_the_invariant_holds_on_random_graphs(program: list[Instruction]) -> None:
    assert invariant_error(consult(make(program)).graph) < 1e-9


@BOUNDED
@given(programs())
def test_traces_of_random_graphs_are_exact(program: list[Instruction]) -> None:
    factory = make(program)
    findings = judge(factory, consult(factory), MODES)
    assert not findings, "\n".join(findings[:12])
