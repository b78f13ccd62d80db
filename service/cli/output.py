"""Rows on stdout, as a table for people or as JSON, NDJSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gradtrace.queries.answer import Answer

FORMATS = ("table", "json", "ndjson", "csv")
Row = Mapping[str, Any]


def format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--format`, passed on as `output`."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How to write the rows on stdout.",
    )(function)


def write_rows(
    rows: Iterable[Row],
    columns: Sequence[str],
    output: str,
    *,
    title: str | None = None,
    sections: str | None = None,
    right: Sequence[str] = (),
) -> int:
    """Write rows to stdout. NDJSON and CSV are written as the rows come, the others at the end.

    Numbers that JSON lacks are written as the texts "NaN", "Infinity" and "-Infinity".

    Args:
        rows: mappings from column to value.
        columns: names and order of the columns.
        output: one of `FORMATS`.
        title: heading of the table.
        sections: a column; the table gets a line between rows that differ in it.
        right: columns that the table aligns to the right; those with numbers are anyway.

    Returns:
        How many rows there were.
    """
    if output == "table":
        return _write_table(rows, columns, title, sections, right)
    count = 0
    if output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(c)) for c in columns])
            count += 1
    elif output == "ndjson":
        for row in rows:
            click.echo(to_json({c: row.get(c) for c in columns}))
            count += 1
    else:
        listed = [{c: row.get(c) for c in columns} for row in rows]
        count = len(listed)
        click.echo(to_json(listed, indent=2))
    return count


def write_answer(answer: Answer, output: str, *, brief: Sequence[str] | None = None) -> None:
    """Write the rows of an answer to stdout, and its notes to stderr; in a table only the columns `brief`, if given."""
    write_rows(answer.rows, brief if brief and output == "table" else answer.columns, output)
    for note in answer.notes:
        click.echo(f"note: {note}", err=True)


def to_json(value: object, indent: int | None = None) -> str:
    """Valid JSON of plain data, times and graph values included."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def text_of(value: object) -> str:
    """A value as a table shows it.

    >>> text_of(0.123456), text_of(1234567), text_of(None), text_of([1, 2])
    ('0.1235', '1234567', '-', '1 2')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(text_of(v) for v in value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _write_table(
    rows: Iterable[Row], columns: Sequence[str], title: str | None, sections: str | None, right: Sequence[str]
) -> int:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = list(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        values = [row.get(column) for row in listed]
        number = any(isinstance(v, int | float) and not isinstance(v, bool) for v in values) or column in right
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
    for i, row in enumerate(listed):
        last = sections is not None and i + 1 < len(listed) and listed[i + 1].get(sections) != row.get(sections)
        table.add_row(*(Text(text_of(row.get(c))) for c in columns), end_section=last)
    # Into a pipe or a file, lines are as long as they have to be.
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    if title:
        console.print(Text(title, style="bold"))
    console.print(table)
    return len(listed)


def _cell(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    for method in ("iso_format", "isoformat"):  # times, of neo4j's kind and of Python's
        if hasattr(value, method):
            return getattr(value, method)()
    return str(value)
