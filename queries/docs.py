"""Writes `docs/questions.md` from the headers of the questions.

`python -m gradtrace.queries.docs` prints it; `python -m gradtrace.queries.docs PATH` writes it there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from gradtrace.queries.model import GROUPS, Question
from gradtrace.queries.registry import registry

_HEAD = """\
# Questions

<!-- Generated from queries/cypher/*.cypher by `python -m gradtrace.queries.docs docs/questions.md`. Do not edit. -->

Ask one with `gradtrace query NAME -p key=value`, or in Python:

```python
from gradtrace.queries import Library
from gradtrace.service.store import connect

with connect() as store:
    answer = Library(store.driver).run("components-by-epoch", limit=5)
    answer.rows, answer.to_pandas(), answer.to_arrow()
```

`Library.connect(uri, user, password)` opens a library over any server. In asyncio programs, `AsyncLibrary(library)` has the
same methods to await. `to_pandas` needs the extra `gradtrace[pandas]`, `to_arrow` the extra `gradtrace[arrow]`.

Parameters that are left out take their defaults, mostly the newest run and its last traced step; `answer.parameters`
says which. Every question only reads, takes values as parameters only, and answers in a fixed order. A question marked
*draws* has a second query for the part of the graph to look at: `Library(...).subgraph(NAME, ...)`.
"""


def document() -> str:
    """The whole page."""
    questions = registry().values()
    parts = [_HEAD]
    for group, about in GROUPS.items():
        held = [q for q in questions if q.group == group]
        if held:
            rows = [[f"[{q.name}](#{q.name})", q.question] for q in held]
            parts += [f"## {group.capitalize()}\n\n{about}\n", _table(["name", "question"], rows)]
            parts += [_section(q) for q in held]
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    """Print the page, or write it to the path given."""
    if arguments:
        Path(arguments[0]).write_text(document(), encoding="utf-8")
    else:
        sys.stdout.write(document())


def _section(question: Question) -> str:
    lines = [f"### {question.name}\n", question.question + (" *(draws)*" if question.subgraph else "")]
    if question.about:
        lines.append("\n" + question.about)
    if question.parameters:
        rows = [
            [
                f"`{p.name}`",
                p.expected,
                "required" if p.required else _default(p.default) if p.default_from is None else f"`{p.default_from}`",
                p.about,
            ]
            for p in question.parameters.values()
        ]
        lines.append("\n" + _table(["parameter", "expected", "default", "meaning"], rows))
    rows = [
        [
            f"`{c.name}`",
            c.type,
            c.unit,
            c.about + (f" Empty where {c.null}." if c.null else ""),
            _shown(question, c.name),
        ]
        for c in question.columns.values()
    ]
    lines.append("\n" * (not question.parameters) + _table(["column", "type", "unit", "meaning", "example"], rows))
    return "\n".join(lines)


def _default(value: Any) -> str:
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _shown(question: Question, column: str) -> str:
    if column not in question.example:
        return ""
    value = question.example[column]
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(c) for c in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    """The text with what Markdown would read as its own marks escaped, but for code spans and links made here."""
    return text if text.startswith(("`", "[")) else text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    main(sys.argv[1:])
