"""Routes: the components that a trace crosses, with repeats in a row collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Token = str | tuple["Token", ...]
"""A component path, or a repeated block (two or more times) of tokens."""


def collapse(crossed: Sequence[str]) -> tuple[str, ...]:
    """The route of a list of components crossed: repeats collapsed, shortest block first, left to right, to a fixed point.

    >>> collapse(["embed", "recurrent", "output_gate", "recurrent", "output_gate", "head"])
    ('embed', '(', 'recurrent', 'output_gate', ')+', 'head')
    """
    if len(set(crossed)) == len(crossed):
        return tuple(crossed)
    return tuple(flatten(_reduced(crossed)[0]))


def first_and_last(names: Sequence[str]) -> tuple[int, ...]:
    """Positions in a list that remain if of every block that repeats only the first and the last repetition are kept.

    Blocks are those of `collapse`, so that both lists collapse to the same.

    >>> first_and_last(list("xababab"))
    (0, 1, 2, 5, 6)
    """
    if len(set(names)) == len(names):
        return tuple(range(len(names)))
    return tuple(at for span in _reduced(names)[1] for at in span.all)


@dataclass(slots=True)
class _Span:
    """Positions of a token: of a repeated block, those kept of its first and of its last repetition."""

    first: tuple[int, ...]
    last: tuple[int, ...] = ()

    @property
    def all(self) -> tuple[int, ...]:
        return self.first + self.last


def _reduced(crossed: Sequence[str]) -> tuple[list[Token], list[_Span]]:
    """Tokens without repeats in a row, and where each of them is."""
    tokens: list[Token] = list(crossed)
    spans = [_Span((at,)) for at in range(len(tokens))]
    changed = True
    while changed:
        changed = False
        length = 1
        possible = _spans(tokens)
        while 2 * length <= len(tokens):
            if length not in possible:
                length += 1
                continue
            shorter = _pass(tokens, spans, length)
            if shorter is not None:
                tokens, spans = shorter
                changed = True
                possible = _spans(tokens)
                if length > 1:
                    break  # a shorter block may have become possible
            length += 1
    return tokens, spans


def _spans(tokens: list[Token]) -> set[int]:
    """Lengths that a repeated block can have: distances between equal tokens."""
    places: dict[Token, list[int]] = {}
    for at, token in enumerate(tokens):
        places.setdefault(token, []).append(at)
    return {b - a for found in places.values() for i, a in enumerate(found) for b in found[i + 1 :]}


def _pass(tokens: list[Token], spans: list[_Span], length: int) -> tuple[list[Token], list[_Span]] | None:
    """One sweep from the left with blocks of this length; None if nothing repeats."""
    result: list[Token] = []
    where: list[_Span] = []
    at, found = 0, False
    while at < len(tokens):
        block = tokens[at : at + length]
        end = at + length
        while len(block) == length and tokens[end : end + length] == block:
            end += length
        if end > at + length:
            found = True
            if length == 1 and isinstance(block[0], tuple):
                result.append(block[0])
                where.append(_Span(spans[at].first, spans[end - 1].last))
            else:
                result.append(tuple(block))
                kept = (spans[at : at + length], spans[end - length : end])
                where.append(_Span(*(tuple(p for span in part for p in span.all) for part in kept)))
            at = end
        else:
            result.append(tokens[at])
            where.append(spans[at])
            at += 1
    return (result, where) if found else None


def flatten(tokens: Sequence[Token]) -> list[str]:
    """Tokens as strings: `("a",)` is `"a+"`, a longer block `"(" … ")+"`."""
    flat: list[str] = []
    for token in tokens:
        if isinstance(token, str):
            flat.append(token)
        elif len(token) == 1 and isinstance(token[0], str):
            flat.append(token[0] + "+")
        else:
            flat += ["(", *flatten(token), ")+"]
    return flat
