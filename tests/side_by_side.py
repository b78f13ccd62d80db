"""Tests in several processes at once (`pytest -n 2 --dist loadfile`): what is done once, before these begin.

Each process has servers of its own, since fixtures are its own. What they share is what lies on the disk: the compiled
kernels, and the files of the embedded Neo4j.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

TRACED = """
import sys, torch
from gradtrace.tracer import trace
kind = getattr(torch, sys.argv[1])
model = torch.nn.Linear(3, 2).to(kind)
trace(lambda: model(torch.ones(4, 3, dtype=kind)).square().sum(), model, mode=("greedy", "maxprod")).components()
"""
"""A step that needs the kernels, and so compiles those that the disk does not hold."""


def prepare() -> None:
    """Compile the kernels for both types of numbers side by side, so that not every process of the tests does."""
    # Threads that spin while they wait would take the other process' core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    began = time.monotonic()
    compiling = [subprocess.Popen([sys.executable, "-c", TRACED, kind]) for kind in ("float32", "float64")]
    ended = [process.wait() for process in compiling]
    if any(ended):
        raise RuntimeError("The tracing kernels cannot be compiled; what is above says why.")
    if (took := time.monotonic() - began) > 20:
        print(f"The tracing kernels were compiled in {took:.0f} s.", file=sys.stderr)
