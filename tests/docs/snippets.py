"""The snippets of a page, run as its reader would: Python in one namespace, shell in one folder, Cypher against the store.

Sybil finds the fenced blocks and minds `<!-- skip: next "reason" -->`. What a reader has to fill in (`RUN`, `STEP`) is filled
in here: the newest run, and its last traced step. A block of `text` after a shell block is its output:
every line of it must have come, with numbers near those shown, whatever the names of runs; a line `...` stands for lines that
are left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sybil import Document, Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
LANGUAGES = ("python", "sh", "cypher", "text")
SECONDS = 1800.0
RUN_ID = re.compile(r"\b[\w-]+-\d{8}-\d{6}-[0-9a-f]+\b")
NUMBER = re.compile(r"(-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?)( ?%)?")
BARS = re.compile(r"[▁▂▃▄▅▆▇█─]+")
NEAR, NEAR_OF = 0.1, 0.3
"""How far a number may be from the one shown: that much, or that part of the greater; processors round differently."""


class SnippetError(AssertionError):
    """A snippet did not do what the page says."""


def name_of(page: Path) -> str:
    """The page's path as people write it (`docs/tutorial.md`)."""
    return page.relative_to(ROOT).as_posix()


def parse(page: Path) -> Document:
    """The page's blocks in order, ready to be run."""
    evaluators = {"python": PythonEvaluator(), "sh": _shell, "cypher": _cypher, "text": _output}
    return Sybil([*(CodeBlockParser(name, run) for name, run in evaluators.items()), SkipParser()]).parse(page)


def is_block(example: Example) -> bool:
    """Whether this is a block of code, and not a mark to skip one."""
    return "source" in example.region.lexemes


def language(example: Example) -> str:
    """What its fence says."""
    return str(example.region.lexemes["arguments"])


def skipped(document: Document) -> Iterator[tuple[Example, str]]:
    """The blocks that do not run, each with the reason that the page gives."""
    reason = None
    for example in document.examples():
        if is_block(example):
            if reason is not None:
                yield example, reason
            reason = None
        else:
            action, quoted = example.parsed
            if action != "next" or not quoted:
                raise SnippetError(f'{document.path}, line {example.line}: say <!-- skip: next "reason" -->.')
            reason = quoted.strip('"')


def place(home: Path) -> dict[str, str]:
    """The environment of a page's commands, in a home of their own: no settings, no servers, and nothing of the user's.

    Neo4j's files and the compiled kernels are those that this machine has; pip installs into the home, and fetches nothing.
    """
    site, cache = home / "site", home / ".cache" / "gradtrace"
    if not cache.exists():
        from gradtrace.service.local.jars import cache_folder

        cache.parent.mkdir(parents=True)
        cache.symlink_to(cache_folder())
        site.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GRADTRACE_", "XDG_", "PIP_"))}
    return kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "PIP_TARGET": str(site),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say that it is off
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


@contextmanager
def ready(document: Document, folder: Path, env: dict[str, str]) -> Iterator[None]:
    """The folder and environment for the page's blocks, its Python ones, which run in this process, included."""
    document.namespace["_place"] = (folder, env)
    before, here = dict(os.environ), Path.cwd()
    try:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(env)
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def run(document: Document) -> int:
    """Run the blocks that are not skipped, in order; how many there were."""
    left_out = {example.start for example, _ in skipped(document)}
    count = 0
    for example in document.examples():
        if is_block(example) and example.start not in left_out:
            try:
                example.evaluate()
            except Exception as error:
                error.add_note(f"{document.path}, line {example.line}")
                raise
            count += 1
    return count


def _shell(example: Example) -> None:
    """One shell for the block; it stops at the first command that fails."""
    folder, env = example.namespace["_place"]
    text = _filled_in(example)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SnippetError(f"exit status {done.returncode}\n{text}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    example.namespace["_output"] = done.stdout + done.stderr


def _output(example: Example) -> None:
    """What the shell block before it wrote."""
    if "_output" not in example.namespace:
        return  # a drawing
    came: dict[str, list[list[float]]] = {}
    for line in example.namespace["_output"].splitlines():
        words, numbers = _read(line)
        came.setdefault(words, []).append(numbers)
    for line in example.parsed.splitlines():
        words, numbers = _read(line)
        if words not in ("", "...") and not any(_near(numbers, other) for other in came.get(words, [])):
            raise SnippetError(f"This line did not come: {line}\n{example.namespace['_output']}")


def _read(line: str) -> tuple[str, list[float]]:
    """A line without its numbers, and its numbers; percentages as fractions."""
    line = BARS.sub("", RUN_ID.sub("RUN", line))
    numbers = [float(n.replace(",", "")) / (100 if percent else 1) for n, percent in NUMBER.findall(line)]
    return " ".join(NUMBER.sub("#", line).split()), numbers


def _near(shown: list[float], came: list[float]) -> bool:
    return all(abs(a - b) <= max(NEAR, NEAR_OF * max(abs(a), abs(b))) for a, b in zip(shown, came, strict=True))


def _cypher(example: Example) -> None:
    """The query through the read-only gate; it must find something."""
    from gradtrace.queries import Library
    from gradtrace.service.store import connect

    with connect(progress=False) as store:
        library = Library(store.driver)
        newest = library.run("traced-steps").rows[0]
        known = {"run": library.run("run-ids").rows[0]["run"], "step": newest["step"]}
        needed = {name: known[name] for name in set(re.findall(r"\$(\w+)", example.parsed))}
        if not library.cypher(example.parsed, needed).rows:
            raise SnippetError(f"Nothing was found by\n{example.parsed}")


def _filled_in(example: Example) -> str:
    """The text with `RUN` and `STEP` replaced by the newest run and its last traced step, as they are before the block."""
    text = str(example.parsed)
    if not re.search(r"\b(RUN|STEP)\b", text):
        return text
    from gradtrace.queries import Library
    from gradtrace.service.store import connect

    with connect(progress=False) as store:
        library = Library(store.driver)
        text = re.sub(r"\bRUN\b", newest := library.run("runs", limit=1).rows[0]["run"], text)
        if "STEP" in text:
            text = re.sub(r"\bSTEP\b", str(library.run("traced-steps", run=newest).rows[0]["step"]), text)
    return text
