"""Routes: the components that a path crosses, with repeats in a row collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

Token = str | tuple["Token", ...]


def crossings(components: Sequence[str | None]) -> list[str]:
    """Component per operator → component per crossing: nameless operators left out, neighbours in one merged."""
    return [c for c, _ in groupby(c for c in components if c is not None)]


def collapse(items: Sequence[Token]) -> list[Token]:
    """Replace the shortest, leftmost block that repeats by one tuple, until nothing repeats."""
    now = list(items)
    while True:
        found = _first_repeat(now)
        if found is None:
            return now
        start, length, times = found
        now[start : start + length * times] = [tuple(now[start : start + length])]


def _first_repeat(items: list[Token]) -> tuple[int, int, int] | None:
    for length in range(1, len(items) // 2 + 1):
        for start in range(len(items) - 2 * length + 1):
            block = items[start : start + length]
            times = 1
            while items[start + times * length : start + (times + 1) * length] == block:
                times += 1
            if times > 1:
                return start, length, times
    return None


def text(items: Sequence[Token]) -> str:
    """`["embed", ("carry", "cell"), "head"]` → `embed (carry cell)+ head`."""
    words = []
    for item in items:
        if isinstance(item, str):
            words.append(item)
        elif len(item) == 1 and isinstance(item[0], str):
            words.append(f"{item[0]}+")
        else:
            words.append(f"({text(item)})+")
    return " ".join(words)


def route(components: Sequence[str | None]) -> str:
    """The route of a path, from the components of its operators."""
    return text(collapse(crossings(components)))
