"""Routes: the components that a trace crosses, with repeats in a row collapsed."""

from __future__ import annotations

from collections.abc import Sequence

Token = str | tuple["Token", ...]
"""A component path, or a repeated block (two or more times) of tokens."""


def collapse(crossed: Sequence[str]) -> tuple[str, ...]:
    """The route of a list of components crossed: repeats collapsed, shortest block first, left to right, to a fixed point.

    >>> collapse(["embed", "recurrent", "output_gate", "recurrent", "output_gate", "head"])
    ('embed', '(', 'recurrent', 'output_gate', ')+', 'head')
    """
    tokens: list[Token] = list(crossed)
    if len(set(tokens)) == len(tokens):
        return tuple(crossed)
    changed = True
    while changed:
        changed = False
        length = 1
        possible = _spans(tokens)
        while 2 * length <= len(tokens):
            if length not in possible:
                length += 1
                continue
            shorter = _pass(tokens, length)
            if shorter is not None:
                tokens = shorter
                changed = True
                possible = _spans(tokens)
                if length > 1:
                    break  # a shorter block may have become possible
            length += 1
    return tuple(flatten(tokens))


def _spans(tokens: list[Token]) -> set[int]:
    """Lengths that a repeated block can have: distances between equal tokens."""
    places: dict[Token, list[int]] = {}
    for at, token in enumerate(tokens):
        places.setdefault(token, []).append(at)
    return {b - a for found in places.values() for i, a in enumerate(found) for b in found[i + 1 :]}


def _pass(tokens: list[Token], length: int) -> list[Token] | None:
    """One sweep from the left with blocks of this length; None if nothing repeats."""
    result: list[Token] = []
    at, found = 0, False
    while at < len(tokens):
        block = tokens[at : at + length]
        end = at + length
        while len(block) == length and tokens[end : end + length] == block:
            end += length
        if end > at + length:
            found = True
            single = block[0] if length == 1 else None
            result.append(single if isinstance(single, tuple) else tuple(block))
            at = end
        else:
            result.append(tokens[at])
            at += 1
    return result if found else None


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
