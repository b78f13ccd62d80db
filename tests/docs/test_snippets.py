"""Every snippet of README, docs and examples runs; those that cannot are known, each with its reason."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gradtrace.service.cli.app import COMMANDS, cli
from tests.docs.snippets import (
    LANGUAGES,
    PAGES,
    ROOT,
    SnippetError,
    is_block,
    language,
    name_of,
    parse,
    place,
    ready,
    skipped,
)
from tests.docs.snippets import run as run_blocks

SKIPPED = {
    ("README.md", "prepares .venv and runs these tests; tests/service/test_makefile.py says which commands follow"): 1,
    ("README.md", "fetches PyTorch; tests/service/test_makefile.py looks at what is kept"): 1,
    ("docs/tutorial.md", "installs what is under test already"): 1,
    ("docs/operations.md", "needs Docker, which a test has not"): 1,
    (
        "docs/how-to/workers.md",
        "needs servers and machines that a test has not; tests/faults runs several workers against one Redis and one Neo4j",
    ): 1,
    ("docs/embedded-neo4j.md", "would remove what is under test"): 1,
}
"""Blocks that do not run, by page and reason."""

QUICK = {"docs/questions.md", "docs/semantics.md"}
"""Pages that take a few seconds; the others are left to the long tests."""

NOISY = {"docs/how-to/integrations.md"}
"""Pages whose snippets load packages that warn of themselves."""

OF_THEIR_OWN = {"docs/embedded-neo4j.md"}
"""Pages that remove what is stored: they get a home of their own."""

ELSEWHERE = {"examples/findings/": "test_findings.py"}
"""Pages below these folders name commands that take up to half an hour; the tests here run them at reduced size."""

OTHERS = {"{toctree}", "{eval-rst}"}
"""Fences that are no snippets, but directives of the site."""


def marked() -> list[object]:
    """Every page that has blocks."""
    found: list[object] = []
    for page in PAGES:
        if name_of(page).startswith(tuple(ELSEWHERE)):
            continue
        kinds = {language(example) for example in parse(page).examples() if is_block(example)}
        if kinds - {"text"}:
            marks = [] if name_of(page) in QUICK else [pytest.mark.full]
            found.append(pytest.param(page, id=name_of(page), marks=marks))
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a store that holds a small run; what was started there is stopped at the end."""
    folder = tmp_path_factory.mktemp("home")
    env = place(folder)
    command = "gradtrace run digits-mlp --set hidden=8 --epochs 1 --every 15 --experiment depth"
    try:
        subprocess.run(["bash", "-c", command], env=env, cwd=folder, check=True, capture_output=True, timeout=600)
        yield folder
    finally:
        stop(env, folder)


def stop(env: dict[str, str], folder: Path) -> None:
    """End whatever the page's commands started and left."""
    subprocess.run(["bash", "-c", "gradtrace down"], env=env, cwd=folder, check=False, capture_output=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands of a page are typed: a folder with the examples, as in a checkout."""
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    return tmp_path


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("page", marked())
def test_snippets_run(page: Path, home: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    own = name_of(page) in OF_THEIR_OWN
    env = place(tmp_path_factory.mktemp("own") if own else home)
    document = parse(page)
    try:
        with warnings.catch_warnings(), ready(document, folder, env):
            if name_of(page) in NOISY:
                warnings.simplefilter("ignore")
            assert run_blocks(document) > 0 or list(skipped(document))
    finally:
        if own:
            stop(env, folder)


def test_what_does_not_run_is_known() -> None:
    for folder, test in ELSEWHERE.items():
        assert not (ROOT / folder).exists() or (Path(__file__).parent / test).exists()
    found: dict[tuple[str, str], int] = {}
    for page in PAGES:
        for _, reason in () if name_of(page).startswith(tuple(ELSEWHERE)) else skipped(parse(page)):
            found[name_of(page), reason] = found.get((name_of(page), reason), 0) + 1
    assert found == SKIPPED


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_all_code_is_in_blocks_that_are_looked_at(page: Path) -> None:
    """No fence without a language that is run, and no code by indenting alone."""
    from markdown_it import MarkdownIt

    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        assert token.type != "code_block", f"{name_of(page)}: fence this: {token.content}"
        if token.type == "fence":
            fence = token.info.split()[0] if token.info else ""
            assert fence in LANGUAGES or fence in OTHERS, f"{name_of(page)}: a fence of {fence!r}"


def lines_of(page: Path) -> list[str]:
    """Every command line with `gradtrace` in it that the page names, in its blocks or in its text."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(str(e.parsed) for e in parse(page).examples() if is_block(e) and language(e) == "sh")
    lines = re.findall(r"^(?:\w+=\S+ )*gradtrace (.+)$", blocks, re.MULTILINE)
    inline = re.findall(r"`gradtrace ([^`]+)`", text)
    return [*lines, *(" ".join(line.split()) for line in inline)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_taken_as_written(page: Path) -> None:
    """Each command and its options are there, and its values are taken; a text may leave arguments out."""
    for line in lines_of(page):
        words = shlex.split(line.replace("STEP", "0"), comments=True)
        words = words[: next((at for at, w in enumerate(words) if w in ("|", "||", ">", "&&")), len(words))]
        if words[0].startswith("-") or words[0] in ("COMMAND",):
            continue
        assert words[0] in COMMANDS, f"{name_of(page)}: gradtrace {line}"
        command: click.Command | None = cli.get_command(click.Context(cli), words[0])
        if isinstance(command, click.Group) and len(words) > 1 and words[1] != "...":
            words = words[1:]
            assert words[0] in command.commands, f"{name_of(page)}: gradtrace {line}"
            command = command.commands[words[0]]
        assert command is not None
        try:
            command.make_context(words[0], [w for w in words[1:] if w not in ("...", "…")], resilient_parsing=False)
        except click.exceptions.Exit:
            pass
        except click.MissingParameter:
            pass  # `gradtrace submit` in a text
        except click.UsageError as error:
            raise SnippetError(f"{name_of(page)}: gradtrace {line}: {error.message}") from error


@pytest.mark.full
def test_the_default_run_ends_as_the_readme_shows(home: Path, folder: Path) -> None:
    """`make run` is `gradtrace run char-lstm`."""
    env = place(home)
    done = subprocess.run(
        [Path(sys.executable).with_name("gradtrace"), "run", "char-lstm"],
        env=env, cwd=folder, check=True, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    document = parse(ROOT / "README.md")
    [shown] = [e for e in document.examples() if is_block(e) and language(e) == "text"]
    document.namespace["_output"] = done.stdout + done.stderr
    shown.evaluate()


def test_a_snippet_that_fails_is_seen(tmp_path: Path) -> None:
    """The harness itself: what fails, what writes something else, and what raises."""
    for block, said in (
        ("```sh\nfalse\necho on\n```\n", "exit status 1"),
        ("```sh\necho 1 2\n```\n\n```text\n1 2 words\n```\n", "did not come"),
        ("```sh\necho 7 words\n```\n\n```text\n12 words\n```\n", "did not come"),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", None),
    ):
        page = tmp_path / "page.md"
        page.write_text(block)
        document = parse(page)
        with pytest.raises(AssertionError, match=said), ready(document, tmp_path, place(tmp_path / "home")):
            run_blocks(document)
    page.write_text(
        '<!-- skip: next "because" -->\n```sh\nfalse\n```\n\n```sh\necho 3 words\n```\n\n```text\n...\n3.05  words\n```\n'
    )
    document = parse(page)
    with ready(document, tmp_path, place(tmp_path / "home")):
        assert run_blocks(document) == 2
    assert [reason for _, reason in skipped(document)] == ["because"]
