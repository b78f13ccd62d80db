"""Answers that come as one record: rows one by one cost the driver more time than most questions cost the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neo4j import Query, Session

MOST = 20_000
"""Rows that may come as one record; the server must hold them all, so more are sent one by one."""
_LIMIT = "gradtrace_rows"


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
    return f"CALL () {{\n{text}\n}}\nWITH [{row}] AS row LIMIT ${_LIMIT}\nRETURN collect(row) AS rows"


def rows_of(
    session: Session, text: str, columns: Sequence[str], params: dict[str, Any], limit: int, timeout: float
) -> Iterator[list[Any]]:
    """At most `limit` rows of a reading query, each a value per column."""
    found = session.run(Query(packed(text, columns), timeout=timeout), {**params, _LIMIT: limit})
    yield from found.single(strict=True)["rows"]
