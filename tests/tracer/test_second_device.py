"""Models on another device than the CPU, where there is no GPU: one that PyTorch lets us make ourselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracer.second_device.build import build, compiler
from tests.tracer.second_device.compare import MODELS

ROOT = Path(__file__).parents[2]


@pytest.mark.full
@pytest.mark.skipif(compiler() is None, reason="NOT TESTED: this machine has no C++ compiler")
def test_traces_are_those_of_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.tracer.second_device.compare", str(build(tmp_path))]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [f"{name}: the same" for name in MODELS]
