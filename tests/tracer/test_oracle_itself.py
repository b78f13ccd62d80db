"""The oracle against itself, before it judges anything else."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.oracle.scalar_graph import build, record_problem
from tests.oracle.traces import MODES, Traces, all_paths, invariant_error, is_path
from tests.problems import Problem, everything


@pytest.mark.parametrize("problem", everything(), ids=lambda p: p.name)
def test_weights_times_gradients_add_up(problem: Problem) -> None:
    graph = build([record_problem(problem.make, seed) for seed in range(3)])
    assert invariant_error(graph) < problem.tolerance
