"""What README and docs say is so: code runs, commands parse, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gradtrace.service.cli.app import cli
from gradtrace.service.cli.summary import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every line of the README's shell blocks, without comments."""
    lines = (
        line.partition(" #")[0].strip() for block in blocks(ROOT / "README.md", "sh") for line in block.splitlines()
    )
    return [line for line in lines if line]


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("gradtrace ")])
def test_commands_are_taken_as_written(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    found.make_context(name, arguments)  # raises where an option or value is wrong


def test_make_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"run", "test"} <= named <= targets


@pytest.mark.parametrize("status", [0, 1])
def test_ci_does_what_the_readme_says(tmp_path: Path, status: int) -> None:
    """The script itself, with a `make` that only notes what it is asked for."""
    noted, make = tmp_path / "noted", tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$@" >> {noted}; exit {status}\n')
    make.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([ROOT / ".ci" / "run"], env={**os.environ, "PATH": path}, check=False)
    assert done.returncode == status
    assert noted.read_text().split("\n") == ["test", ""]
    assert "CI runs `.ci/run`, which is `make test`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs() -> None:
    [example] = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 steps traced"


def test_the_output_shown_has_the_columns_of_today() -> None:
    assert re.search(r"^ " + r" +".join(COLUMNS) + "$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name


def test_the_changelog_is_in_its_format() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }
