"""The documentation site: it builds without a warning, needs no network, its links hold, and it leaves nothing out."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest
from bs4 import BeautifulSoup
from sphinx.util.inventory import InventoryFile

from gradtrace.service.cli.app import COMMANDS
from gradtrace.tracer import errors
from tests.docs.reference import ADAPTERS, PUBLIC, commands, public, silent

pytestmark = pytest.mark.full  # the build imports torch, Lightning, transformers and MLflow

ROOT = Path(__file__).resolve().parents[2]
ASKS = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}
"""What a browser fetches by itself."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a warning fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "doctrees"]
    command += [ROOT / "docs", folder / "html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, BeautifulSoup]:
    """Every page by its path."""
    return {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in sorted(site.rglob("*.html"))}


@pytest.fixture(scope="module")
def inventory(site: Path) -> dict[str, set[str]]:
    """What the site documents, by kind (`py:class`, `std:cmdoption`), as Sphinx lists it for other sites."""
    found = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {kind: set(names) for kind, names in found.data.items()}


def test_make_docs_builds_it_alike() -> None:
    assert "sphinx-build -q -W --keep-going -d build/doctrees docs build/site" in (ROOT / "Makefile").read_text()


def test_it_asks_nothing_of_any_network(site: Path, pages: dict[Path, BeautifulSoup]) -> None:
    assert len(pages) > 40
    for path, page in pages.items():
        for tag, attribute in ASKS.items():
            for found in page.find_all(tag):
                assert not urlsplit(str(found.get(attribute) or "")).netloc, f"{path.name}: {found}"
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert not any(mark in text for mark in ("url(http", "url(//", "@import")), style.name


def test_every_link_within_it_leads_somewhere(site: Path, pages: dict[Path, BeautifulSoup]) -> None:
    names = {path: {str(tag["id"]) for tag in page.find_all(id=True)} for path, page in pages.items()}
    count = 0
    for path, page in pages.items():
        for link in page.find_all("a", href=True):
            address = urlsplit(str(link["href"]))
            if address.scheme or address.netloc:
                continue
            count += 1
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert target.is_file(), f"{path.name}: {link}"
            if address.fragment and target in names:
                assert unquote(address.fragment) in names[target], f"{path.name}: {link}"
    assert count > 1000


def test_every_command_and_option_is_documented(site: Path, inventory: dict[str, set[str]]) -> None:
    for line, command in commands():
        for parameter in command.params:
            is_option = isinstance(parameter, click.Option)
            names = [*parameter.opts, *parameter.secondary_opts] if is_option else [parameter.human_readable_name]
            for name in names:
                assert f"{line.replace(' ', '-')}.{name}" in inventory["std:cmdoption"], f"{line} {name}"
    for name in COMMANDS:
        assert f"gradtrace {name}" in (site / "reference" / "commands" / f"{name}.html").read_text("utf-8")


@pytest.mark.parametrize("module", [*PUBLIC, *ADAPTERS])
@pytest.mark.filterwarnings("ignore")  # what Lightning and others warn of on import
def test_every_public_name_is_documented(module: str, inventory: dict[str, set[str]]) -> None:
    known = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    assert {f"{module}.{name}" for name in public(module)} <= known
    assert silent(module) == []


def test_every_error_is_documented(inventory: dict[str, set[str]]) -> None:
    ours = {
        f"{errors.__name__}.{n}" for n, e in vars(errors).items() if inspect.isclass(e) and issubclass(e, Exception)
    }
    assert len(ours) > 20 and ours <= inventory["py:exception"]
