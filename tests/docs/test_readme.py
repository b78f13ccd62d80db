"""README, changelog and the pages of docs as plain Markdown: targets are there, links lead somewhere. Snippets: test_snippets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from myst_parser.slugs import github_slugify as slugify

from gradtrace.service.cli.summary import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "examples").rglob("README.md"))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


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


def links(page: Path) -> list[tuple[str, str]]:
    """(target, anchor) of every link of the page that is no address; both may be empty."""
    inline = [t for token in MarkdownIt().parse(page.read_text(encoding="utf-8")) for t in token.children or ()]
    found = [urlsplit(str(t.attrs["href"])) for t in inline if t.type == "link_open"]
    return [(f.path, f.fragment) for f in found if not f.scheme]


@cache
def anchors(page: Path) -> set[str]:
    """The anchors that a reader of plain Markdown has: one for each heading."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    titles = [b.content for a, b in pairwise(tokens) if a.type == "heading_open"]
    return {slugify(re.sub(r"[`*]", "", title)) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_every_page_of_docs_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        found = {
            (page.parent / target).resolve() for page in new for target, _ in links(page) if target.endswith(".md")
        }
        new = {page for page in found - reached if page.exists()}  # those that are not, test_links_lead_somewhere tells
    assert set((ROOT / "docs").rglob("*.md")) <= reached


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
