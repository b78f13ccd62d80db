"""The wheel: built from the sdist, whole, and at work in an environment that knows nothing of this tree."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("tracer", "service", "queries")
SHIPPED = (".py", ".typed", ".cypher", ".lock", ".jinja", ".css", ".js")


def run(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a command to its end; its stdout."""
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it. Nothing is downloaded."""
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for part in PARTS:
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, cwd=tree)
    return dist


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment: the wheel, and the packages (but not the links to this tree) of the current."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    packages = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])").strip())
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    [wheel] = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    kernels = Path("tracer", "kernels", "__pycache__")
    compiled = packages / "gradtrace" / kernels
    compiled.mkdir(exist_ok=True)
    for file in (ROOT / kernels).glob("*.nb[ci]"):  # they hold for these sources wherever they lie
        shutil.copy(file, compiled)
    return python


def wanted() -> set[str]:
    """The files of the tree that users need, by the names that they have in the wheel."""
    return {
        f"gradtrace/{path.relative_to(ROOT).as_posix()}"
        for part in PARTS
        for path in (ROOT / part).rglob("*")
        if path.suffix in SHIPPED or path.name == "py.typed"
    }


def test_the_wheel_holds_every_file_that_is_needed_and_no_other(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if not n.partition("/")[0].endswith(".dist-info")}
    assert names == wanted()
    for needed in (".cypher", ".lock", "py.typed", ".jinja", ".css", ".js"):
        assert any(n.endswith(needed) for n in names)


def test_the_sdist_holds_the_sources(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    assert {n.removeprefix("gradtrace/") for n in wanted()} <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_the_command_works_there(python: Path, tmp_path: Path) -> None:
    command = python.with_name("gradtrace")
    assert run(command, "--version", cwd=tmp_path).startswith("gradtrace ")
    assert "char-lstm" in run(command, "workloads", cwd=tmp_path)
    assert "components-by-epoch" in run(command, "query", cwd=tmp_path)


@pytest.mark.full
def test_every_module_can_be_imported_there(python: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, sys
import gradtrace
names = [m.name for m in pkgutil.walk_packages(gradtrace.__path__, "gradtrace.") if not m.name.endswith("__main__")]
for name in names:
    module = importlib.import_module(name)
    assert module.__file__.startswith(sys.prefix), (name, module.__file__)
print(*names)
"""
    imported = set(run(python, "-c", code, cwd=tmp_path).split())
    assert {"gradtrace.tracer.errors", "gradtrace.service.runner", "gradtrace.queries.registry"} <= imported


def test_a_run_works_there(python: Path, tmp_path: Path) -> None:
    command = python.with_name("gradtrace")
    said = run(command, "run", "digits-mlp", "--steps", "3", "--every", "2", "--sink", "jsonl:x.jsonl", cwd=tmp_path)
    assert "Components that carried the dominant gradient path" in said
    assert (tmp_path / "x.jsonl").stat().st_size > 0
