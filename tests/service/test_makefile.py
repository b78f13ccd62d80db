"""The Makefile: finds a Python, keeps a torch that is there, prepares once. Nothing is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell: without the variables of a make that runs these tests."""
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "VENV", "PYTHON", "ARGS", "WORKERS")
    env = {k: v for k, v in os.environ.items() if k not in outer}
    return subprocess.run(["make", *arguments], cwd=tree, env=env, capture_output=True, text=True, check=False)


def prepared(tree: Path) -> None:
    """A .venv without pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tree / ".venv"], check=True)


def plant_torch(tree: Path, version: str) -> None:
    """Let .venv believe that it has this torch."""
    [packages] = (tree / ".venv" / "lib").glob("python*/site-packages")
    folder = packages / f"torch-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")


def test_a_torch_that_is_there_is_kept(tree: Path) -> None:
    prepared(tree)
    plant_torch(tree, "2.9.1+cpu")
    done = make(tree, ".venv/constraints.txt")
    assert done.returncode == 0, done.stderr
    assert "Keeping the torch 2.9.1+cpu" in done.stdout
    pinned = (tree / ".venv" / "constraints.txt").read_text().splitlines()
    assert [p for p in pinned if p.startswith("torch")] == ["torch==2.9.1+cpu"]
    assert not [p for p in pinned if p.startswith(("nvidia", "triton", "cuda"))]
    assert [p for p in pinned if p.startswith("numpy==")]


def test_without_torch_the_pinned_one_is_taken(tree: Path) -> None:
    prepared(tree)
    assert make(tree, ".venv/constraints.txt").returncode == 0
    assert (tree / ".venv" / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()


def test_a_second_run_installs_nothing(tree: Path) -> None:
    prepared(tree)
    first = make(tree, "-n", "run")
    assert "pip --disable-pip-version-check install" in first.stdout
    for stamp in ("constraints.txt", ".prepared"):
        (tree / ".venv" / stamp).touch()
    second = make(tree, "-n", "run")
    assert second.stdout.split() == [".venv/bin/gradtrace", "run", "char-lstm"]
    (tree / "pyproject.toml").touch()
    os.utime(tree / "pyproject.toml", (2**31, 2**31))
    assert "install" in make(tree, "-n", "run").stdout


def test_no_python_is_said_so(tree: Path) -> None:
    done = make(tree, "venv", "PYTHON=")
    assert done.returncode != 0
    assert "No Python 3.11 or newer with venv found" in done.stdout
    assert "PYTHON=/path/to/python3.11" in done.stdout


def test_the_python_that_is_named_is_taken(tree: Path) -> None:
    done = make(tree, "-n", "venv", f"PYTHON={sys.executable}", "VENV_ARGS=--system-site-packages")
    assert f'"{sys.executable}" -m venv --system-site-packages .venv' in done.stdout


def test_help_lists_the_targets(tree: Path) -> None:
    listed = {line.split()[0] for line in make(tree).stdout.splitlines()}
    assert {"run", "test", "venv", "lint", "test-full", "bench"} <= listed


def test_constraints_pin_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = "gradtrace["
    others = [w for w in extras["test"] if not w.startswith(own)]
    named = [n for w in extras["test"] if w.startswith(own) for n in w.removeprefix(own).rstrip("]").split(",")]
    wanted = [*project["dependencies"], *others, *(w for name in named for w in extras[name])]
    names = {w.partition(">")[0].partition(";")[0].strip().lower() for w in wanted}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {line.partition("==")[0].lower() for line in lines}
    assert names - pins <= {"setuptools"}  # the venv's own is new enough to build with
    assert all("==" in line and "/" not in line for line in lines)
