"""The end of an error message that helps: close matches first, then all that would have been right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def choices(given: str, known: Iterable[str], what: str) -> str:
    """Say which of `known` may have been meant by `given`, and list them all.

    >>> choices("hiden", ["hidden", "lr"], "Parameters")
    'Did you mean hidden? Parameters: hidden, lr.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=2, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}{what}: {', '.join(names)}."
