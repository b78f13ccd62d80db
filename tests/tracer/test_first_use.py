"""Compiling the kernels is announced, and only where it happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import logging
import numpy as np
from gradtrace.tracer.first_use import announce
logging.basicConfig(format="%(message)s")
for dtype in (np.float32, np.float32):
    announce(np.empty(0, dtype))
"""


def said(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stderr


def test_announced_once_where_nothing_is_kept(tmp_path: Path) -> None:
    told = said(NUMBA_CACHE_DIR=str(tmp_path))
    assert told.count("Compiling the tracing kernels for float32") == 1, told
    assert str(tmp_path) in told


def test_nothing_is_said_where_they_are_kept() -> None:
    import torch

    from gradtrace.tracer import trace

    model = torch.nn.Linear(2, 1)
    trace(lambda: model(torch.ones(1, 2)).sum(), model)  # compiled now, or before
    assert said() == ""
