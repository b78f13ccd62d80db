"""Which format a file has, and files that are there only when they are whole."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradtrace.tracer.errors import ExchangeError, SpecError

FORMATS = ("parquet", "jsonl", "graphml")
_ENDINGS = {".jsonl": "jsonl", ".graphml": "graphml", ".parquet": "parquet", "": "parquet"}


def format_of(target: Path) -> str:
    """The format that a name tells: `.jsonl`, `.graphml`, and a folder of Parquet files without an ending or `.parquet`.

    Raises:
        SpecError: it ends in something else.

    >>> format_of(Path("runs")), format_of(Path("a/runs.jsonl"))
    ('parquet', 'jsonl')
    """
    found = _ENDINGS.get(target.suffix.lower())
    if found is None:
        raise SpecError(
            f"{target.name} ends in {target.suffix}, which tells no format. Name a file that ends in .jsonl or .graphml, a folder "
            f"(Parquet), or say --format {'|'.join(FORMATS)}."
        )
    return found


def need_pyarrow() -> None:
    """Raise ExchangeError, with what to do, where pyarrow is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ExchangeError(
            "Parquet needs pyarrow: pip install 'gradtrace[arrow]'. JSON lines need nothing more: name a file that ends in .jsonl."
        )


def check_free(target: Path) -> None:
    """Refuse a target that is there already, or whose folder is not.

    Raises:
        ExchangeError: with what to do.
    """
    if target.exists() or target.is_symlink():
        raise ExchangeError(
            f"{target} is there already, and nothing is written over. Name another target, or remove it."
        )
    if not target.absolute().parent.is_dir():
        raise ExchangeError(f"There is no folder {target.absolute().parent} for {target.name}. Make it first.")


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A name beside `target` to write under; on leaving it becomes `target`, or is removed if something went wrong.

    Raises:
        ExchangeError: the target is there already, or cannot be written.
    """
    check_free(target)
    part = target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        check_free(target)
        part.rename(target)
    except OSError as error:
        raise ExchangeError(
            f"{target} cannot be written: {error.strerror or error}. Free some space, or name a target elsewhere."
        ) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
