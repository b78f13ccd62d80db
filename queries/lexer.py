"""Cypher cut into tokens, far enough to know strings, quoted names, comments and parameters from the rest.

Nothing here parses Cypher: the server does. But whoever looks for a keyword, a parameter or a comment in a query must
not find it inside a string, so the header parser and the gate look at tokens and never at raw text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>//[^\n\r]*|/\*.*?\*/)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<quoted>`(?:[^`]|``)*`)
    | (?P<param>\$(?:`(?:[^`]|``)*`|\w+))
    | (?P<number>0[xXoO]\w+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)
    | (?P<word>[^\W\d]\w*)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_OPENING.values())


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: `"comment"`, `"string"`, `"quoted"` (a name in backticks), `"param"`, `"number"`, `"word"` or `"mark"`.
        text: as written.
        start: position of its first character.
        depth: how many brackets are open around it.
    """

    kind: str
    text: str
    start: int
    depth: int

    @property
    def upper(self) -> str:
        """The text in capitals for a bare word, and "" for all else: to look for keywords."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """A word, quoted name or parameter without its backticks and its dollar sign."""
        text = self.text.removeprefix("$") if self.kind == "param" else self.text
        return text[1:-1].replace("``", "`") if text.startswith("`") else text

    def is_mark(self, text: str) -> bool:
        """Whether this is the given punctuation mark."""
        return self.kind == "mark" and self.text == text


def tokens(text: str, *, comments: bool = False) -> list[Token]:
    """All tokens of a query, without white space and (unless asked for) without comments.

    Raises:
        ValueError: a string, a quoted name or a comment is not closed.

    >>> [t.text for t in tokens("RETURN 'a // b' AS x // c")]
    ['RETURN', "'a // b'", 'AS', 'x']
    """
    found: list[Token] = []
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        piece = match.group()
        if kind == "space" or (kind == "comment" and not comments):
            continue
        if kind == "mark":
            if piece in "'\"`" or text.startswith("/*", match.start()):
                what = {"'": "string", '"': "string", "`": "quoted name", "/": "comment"}[piece]
                line = text.count("\n", 0, match.start()) + 1
                raise ValueError(f"The {what} that opens in line {line} is never closed.")
            if piece in _CLOSING:
                depth -= 1
        found.append(Token(kind, piece, match.start(), depth))
        if kind == "mark" and piece in _OPENING:
            depth += 1
    return found


def parameters(text: str) -> set[str]:
    """Names of the parameters that a query uses.

    >>> sorted(parameters("MATCH (n {a: $x}) WHERE n.b = '$no' RETURN $`y z` // $neither"))
    ['x', 'y z']
    """
    return {t.name for t in tokens(text) if t.kind == "param"}


def returned_columns(text: str) -> list[tuple[str, ...]]:
    """Column names of each outermost RETURN (several where UNION joins them), in order.

    Raises:
        ValueError: there is no RETURN, or an item is neither a plain variable nor named with AS.

    >>> returned_columns("MATCH (n) RETURN n.a AS a, count(*) AS n ORDER BY a LIMIT 3")
    [('a', 'n')]
    """
    items = tokens(text)
    found = []
    for at, token in enumerate(items):
        if token.depth == 0 and token.upper == "RETURN":
            found.append(_columns_after(items[at + 1 :]))
    if not found:
        raise ValueError("It has no RETURN.")
    return found


def _columns_after(items: Sequence[Token]) -> tuple[str, ...]:
    """Column names of the RETURN whose items start `items`."""
    if items and items[0].upper == "DISTINCT":
        items = items[1:]
    names: list[str] = []
    item: list[Token] = []
    for token in items:
        if token.depth == 0:
            if token.upper in ("ORDER", "SKIP", "OFFSET", "LIMIT", "UNION") or token.is_mark(";"):
                break
            if token.is_mark(","):
                names.append(_column_name(item))
                item = []
                continue
        item.append(token)
    return (*names, _column_name(item))


def _column_name(item: Sequence[Token]) -> str:
    if len(item) >= 3 and item[-2].upper == "AS" and item[-1].kind in ("word", "quoted"):
        return item[-1].name
    if len(item) == 1 and item[0].kind in ("word", "quoted"):
        return item[0].name
    written = " ".join(t.text for t in item)
    raise ValueError(f"The returned item `{written}` has no name: write `{written} AS name`.")
