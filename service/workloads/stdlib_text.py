"""Text that every Python has: the source of its own standard library."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path

from gradtrace.tracer.errors import SpecError

PER_MODULE = 6_000
"""Characters taken from one module at most, so that even a short text has several styles in it."""


@dataclass(frozen=True, slots=True)
class StdlibText:
    """Characters read, and the names of the modules that they are from, in reading order."""

    text: str
    modules: tuple[str, ...]


def read_stdlib(characters: int, folder: Path | None = None) -> StdlibText:
    """Read `characters` characters of standard library source: the modules in order of their names, the head of each.

    Private modules (`_x.py`), packages and files that are not ASCII are left out. The same Python gives the same text;
    another version's text may differ.

    Args:
        characters: how many to read.
        folder: where the modules are; the running Python's own standard library if None.

    Raises:
        SpecError: there are not that many.

    Example:
        >>> text = read_stdlib(5_000)
        >>> len(text.text), text.modules[0]
        (5000, 'abc')
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    parts: list[str] = []
    modules: list[str] = []
    missing = characters
    limit = PER_MODULE
    names = sorted(p.name for p in folder.glob("[a-z]*.py")) if folder.is_dir() else []
    # With little asked for, one head a module; else as much of each as makes up the sum.
    if names and characters > PER_MODULE * len(names) // 2:
        limit = characters
    for name in names:
        if missing <= 0:
            break
        try:
            source = (folder / name).read_text(encoding="ascii")
        except (UnicodeDecodeError, OSError):
            continue
        part = source[: min(limit, missing)]
        if part:
            parts.append(part)
            modules.append(name.removesuffix(".py"))
            missing -= len(part)
    if missing > 0:
        found = characters - missing
        raise SpecError(
            f"char-lstm wants {characters:,} characters of Python's standard library source, and found {found:,} in "
            f"{folder}. Ask for fewer (--set characters={max(found * 9 // 10, 2000)}), or use a Python whose standard "
            f"library is there as .py files."
        )
    return StdlibText("".join(parts), tuple(modules))
