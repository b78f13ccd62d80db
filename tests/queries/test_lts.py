"""The library on Neo4j 5.26 LTS: the same tests of questions, plans, gate and schema help, on a server of that version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from neo4j import GraphDatabase

from tests.queries.lts import VERSION, lts_server

HERE = Path(__file__).parent
FILES = ("answers", "answers_forms", "empty_store", "gate", "layout", "plan", "real_traces", "runner")
LEFT_OUT = ("test_gate.py::test_allowed[CYPHER 25", "test_runner.py::test_wrong_password")
"""What 5.26 does not know, and what a server without a password cannot refuse."""


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_library_has_the_same_answers_on_5_26(tmp_path: Path) -> None:
    files = [str(HERE / f"test_{name}.py") for name in FILES]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GRADTRACE_TEST_", "PYTEST_"))}
    chosen = [f"--deselect=tests/queries/{test}" for test in LEFT_OUT]
    with lts_server(tmp_path / "lts") as uri:
        with GraphDatabase.driver(uri, auth=None) as driver:
            assert driver.get_server_info().agent == f"Neo4j/{VERSION}"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *chosen, *files],
            cwd=HERE.parents[1],
            env={**kept, "GRADTRACE_TEST_NEO4J_URI": uri},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
