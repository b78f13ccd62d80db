"""How the documentation site is built: `make docs`. The pages are plain Markdown, and can be read as they are."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as version_of
from typing import Any, ClassVar

from pygments.lexers.graph import CypherLexer
from pygments.token import Name, Operator

# Neither may depend on the width of a terminal, nor may a page on the settings of who builds it.
os.environ["COLUMNS"] = "100"
for name in [name for name in os.environ if name.startswith("GRADTRACE_")]:
    del os.environ[name]

project = "gradtrace"
author = "The gradtrace authors"
copyright = author  # the name that Sphinx wants
release = version = version_of("gradtrace")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
source_suffix = {".md": "markdown"}
nitpicky = False
default_role = "code"  # `name` in a docstring is code, as in Markdown

myst_enable_extensions = ["fieldlist"]
myst_heading_anchors = 3
myst_url_schemes = ["https", "mailto"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"gradtrace {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
smartquotes = False


class _Cypher(CypherLexer):
    """Pygments' lexer, which knows neither parameters nor the signs of quantified paths."""

    _more: ClassVar = [(r"\$\w+", Name.Variable), (r"[+?%^]", Operator)]
    tokens: ClassVar = {**CypherLexer.tokens, "root": [*_more, *CypherLexer.tokens["root"]]}


def _plain(text: str) -> str:
    """The text with what reStructuredText, but not we, would take for marks: bars, stars, names_, and `code`s."""
    parts = re.split(r"(`[^`]*`)", text)
    for at, part in enumerate(parts):
        if at % 2 == 0:
            parts[at] = re.sub(r"([|*]|(?<=\w)_(?=\W|$))", r"\\\1", part)
        elif parts[at + 1][:1].isalnum():
            parts[at] = part + "\\ "
    return "".join(parts)


def _docstring(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Before Napoleon reads it."""
    code = False
    for at, line in enumerate(lines):
        code = line.startswith((">>>", "    >>>", "...")) or (code and bool(line.strip()))
        if not code:
            lines[at] = _plain(line)


def _help(app: object, context: object, lines: list[str]) -> None:
    """Examples, which sphinx-click makes a line block of, are shown as they are typed."""
    shown: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("| "):
            shown += [] if before.startswith("| ") else ["::", ""]
            shown.append("   " + line.removeprefix("| "))
        else:
            shown.append(_plain(line))
    lines[:] = shown


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _docstring, priority=100)
    app.connect("sphinx-click-process-description", _help)
    app.add_lexer("cypher", _Cypher)
