"""Answers that come as one record: rows one by one cost the driver more time than most questions cost the server."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 20_000
"""Rows that may come as one record; the server must hold them all, so more are sent one by one."""
LIMIT = "gradtrace_rows"
"""Name of the parameter that says how many rows at most."""


def packed(text: str, columns: Sequence[str]) -> str:
    """A query whose one record is a list of the rows of `text`, in their order and at most `$gradtrace_rows` of them.

    >>> print(packed("MATCH (r:Run) RETURN r.id AS run", ["run"]))
    CALL () {
    MATCH (r:Run) RETURN r.id AS run
    }
    WITH [`run`] AS row LIMIT $gradtrace_rows
    RETURN collect(row) AS rows
    """
    row = ", ".join(f"`{column}`" for column in columns)
    return f"CALL () {{\n{text}\n}}\nWITH [{row}] AS row LIMIT ${LIMIT}\nRETURN collect(row) AS rows"
