"""A report as HTML, Markdown and PNG, looked at without a browser; and the command."""

from __future__ import annotations

import json
import re
import struct
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradtrace.queries import Library
from gradtrace.service.report import Report, to_html, to_markdown, to_png
from gradtrace.service.report.page import embedded
from gradtrace.service.report.secrets import without_secrets
from gradtrace.tracer.errors import ReportError
from tests.service.cli import environment, gradtrace, ok, refused
from tests.service.report.conftest import HOSTILE, SECRET

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo


class _Tags(HTMLParser):
    """The names of the elements, and the attributes that could fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


@pytest.mark.parametrize("name", ["long", "grid", "hostile", "one-step"])
def test_html_stands_by_itself(reports: dict[str, Report], name: str) -> None:
    html = to_html(reports[name])
    tags = _Tags()
    tags.feed(html)
    assert set(tags.links) == {"data:,", "#main"}
    assert tags.tags.count("script") == 2 + len(reports[name].runs)
    assert not {"img", "iframe", "object", "embed", "link"} & set(tags.tags) - {"link"} and tags.tags.count("link") == 1
    assert "default-src 'none'" in unescape(html)
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) == {"http://www.w3.org/2000/svg"}


def test_no_secret_is_in_any_form(reports: dict[str, Report]) -> None:
    for written in (to_html(reports["hostile"]), to_markdown(reports["hostile"])):
        assert f":{SECRET}@" not in written
        assert "s3://" in written.replace("\\", "")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("bolt://neo4j:hunter22@host:7687", "bolt://**********@host:7687"),
        (
            "https://token@host/x?y=1 and redis://:p%40ss@q/0",
            "https://**********@host/x?y=1 and redis://**********@q/0",
        ),
        ("mail someone@host about https://host/a@b", "mail someone@host about https://host/a@b"),
        ("", ""),
    ],
)
def test_addresses_lose_their_credentials(text: str, kept: str) -> None:
    assert without_secrets(text) == kept
    assert without_secrets([text, 1, None]) == [kept, 1, None]


def test_embedded_data_is_json_and_never_markup() -> None:
    value = {"</script><!--": [float("nan"), float("inf"), 0.123456, 2.0, 1234567.8, "a&b\u2028"]}
    text = embedded(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script><!--": ["NaN", "∞", 0.12346, 2, 1234600, "a&b\u2028"]}


def test_markdown_tells_the_same(reports: dict[str, Report]) -> None:
    text = to_markdown(reports["grid"])
    plain = text.replace("\\", "")
    comparison = reports["grid"].comparison
    assert comparison is not None
    for sentence in (*comparison.headline, *(s for run in reports["grid"].runs for s in run.headline)):
        assert sentence in plain
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 1 + 2 * 6
    for table in tables:
        assert len({re.sub(r"\\\|", "", line).count("|") for line in table.splitlines()}) == 1
    hostile = to_markdown(reports["hostile"])
    assert "<script>" not in hostile and r"\<script\>" in hostile


def test_pictures(reports: dict[str, Report], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hostile", "grid"):
        picture = to_png(reports[name])
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", picture[16:24])
        assert width == 1760 and 900 < height < 1100
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportError, match=r"pip install 'gradtrace\[report\]'"):
        to_png(reports["one-step"])


@pytest.fixture(scope="module")
def env(neo4j_server: ServerInfo, library: Library) -> dict[str, str]:
    return environment(
        GRADTRACE_NEO4J_URI=neo4j_server.uri,
        GRADTRACE_NEO4J_USER=neo4j_server.user,
        GRADTRACE_NEO4J_PASSWORD=neo4j_server.password,
        DB_PASSWORD=SECRET,
    )


def test_the_command_writes_files(env: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    page.write_text("what was there before")
    done = gradtrace("report", HOSTILE, "--title", "Läufe", "-o", page, env=env)
    assert ok(done) == "" and str(page) in done.stderr
    assert page.read_text().startswith("<!doctype html>") and "<h1>Läufe</h1>" in page.read_text()
    assert list(tmp_path.iterdir()) == [page]
    assert SECRET not in page.read_text()  # of an environment variable whose name says that it is secret


def test_the_command_writes_to_stdout(env: dict[str, str], tmp_path: Path) -> None:
    text = ok(gradtrace("report", "--experiment", "grid", "--format", "md", env=env, cwd=tmp_path))
    assert text.startswith("# 6 runs of synthetic") and list(tmp_path.iterdir()) == []


def test_the_command_refuses(env: dict[str, str], tmp_path: Path) -> None:
    nowhere = environment(GRADTRACE_NEO4J_URI="bolt://127.0.0.1:9", GRADTRACE_NEO4J_PASSWORD="x")
    assert "no folder" in refused(gradtrace("report", "-o", tmp_path / "a" / "b.html", env=nowhere), 2)
    assert "not both" in refused(gradtrace("report", "x", "--experiment", "y", env=nowhere), 2)
    refused(gradtrace("report", "-o", tmp_path / "x.html", env=nowhere), 3)
    assert "holds no run 'nope'" in refused(gradtrace("report", "nope", "-o", tmp_path / "x.html", env=env), 1)
    assert list(tmp_path.iterdir()) == []
