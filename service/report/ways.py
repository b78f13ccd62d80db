"""A route as the ways between components that it leads over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_MOST = 2_000  # words of a route that are followed, its repeats spelt out twice


def ways_of(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of components that follow each other on a route, each once, in the order of the route.

    What repeats is followed twice, so that the way back to its beginning is among the pairs.

    Args:
        tokens: as in a stored route: components, `"("`, `")+"`, and `"name+"` for one that repeats by itself.

    >>> ways_of(["embed", "(", "carry", "cell", ")+", "head"])
    [('embed', 'carry'), ('carry', 'cell'), ('cell', 'carry'), ('cell', 'head')]
    """
    stack: list[list[str]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")+":
            block = stack.pop()
            stack[-1] += (block * 2)[:_MOST]
        else:
            stack[-1].append(token.removesuffix("+"))
    return list(dict.fromkeys((a, b) for a, b in pairwise(stack[0]) if a != b))
