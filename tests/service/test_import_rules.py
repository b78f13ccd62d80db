"""Who may import whom. `make lint` runs import-linter; here its rules are shown to bite, and those it cannot state."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("tracer", "service", "queries")
TRACER_MAY = {"torch", "numpy", "numba", "llvmlite", "gradtrace", "__future__"}  # llvmlite is numba's own back end


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_the_tracer_imports_nothing_but_torch_numpy_and_numba() -> None:
    files = list((ROOT / "tracer").rglob("*.py"))
    assert len(files) > 5
    for path in files:
        optional = {"pandas"} if path.name == "table.py" else set()  # for those who ask for a DataFrame
        if path.parent.name == "adapters":  # each for those who have that tool
            optional = {path.stem}
        assert imported(path) - optional <= TRACER_MAY | sys.stdlib_module_names, path.name


def test_the_oracle_shares_no_code_with_the_product() -> None:
    files = list((ROOT / "tests" / "oracle").rglob("*.py"))
    assert files
    for path in files:
        assert "gradtrace" not in imported(path), path.name


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over a copy of the code, laid out as `make lint` lays it out."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": f"links{os.pathsep}."},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code with links that give the folders their import names."""
    links = tmp_path / "links" / "gradtrace"
    links.mkdir(parents=True)
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
        (links / part).symlink_to(tmp_path / part, target_is_directory=True)
    shutil.copytree(ROOT / "tests" / "oracle", tmp_path / "tests" / "oracle")
    (tmp_path / "tests" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_rules_hold(tree: Path) -> None:
    done = lint_imports(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("tracer/planted.py", "import gradtrace.service.spec"),
        ("tracer/planted.py", "import gradtrace.queries.registry"),
        ("tracer/planted.py", "import neo4j"),
        ("tracer/planted.py", "import pydantic"),
        ("queries/planted.py", "import gradtrace.service.spec"),
        ("queries/planted.py", "from gradtrace.tracer import steptrace"),
        ("queries/planted.py", "import neo4j"),
        ("queries/planted.py", "import torch"),
        ("service/planted.py", "import neo4j"),
        ("service/cli/planted.py", "from neo4j import GraphDatabase"),
        ("service/planted.py", "import celery"),
        ("service/jobs/planted.py", "from celery import Celery"),
        ("service/jobs/planted.py", "import redis"),
        ("tests/oracle/planted.py", "import gradtrace.tracer.graph"),
    ],
)
def test_a_planted_import_is_found(tree: Path, file: str, line: str) -> None:
    (tree / file).write_text(f"def late():\n    {line}\n")
    done = lint_imports(tree)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
    assert "planted" in done.stdout
