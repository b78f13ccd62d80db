"""What comes back from a question: rows of plain values, or the part of the graph to draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Answer:
    """The rows of one question or query.

    Attributes:
        name: name of the question; `""` for ad hoc Cypher.
        columns: names of the columns, in order (there even if there are no rows).
        rows: one dictionary a row; values are plain Python (nodes and relationships are dictionaries).
        parameters: what was asked, with every default filled in.
        truncated: whether rows beyond the cap were cut off.
        notes: what the reader should know (that rows were cut, why nothing was found, hints of the server).
        seconds: time from asking to the last row.
    """

    name: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    parameters: dict[str, Any] = field(default_factory=dict)
    truncated: bool = False
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        return [row[name] for row in self.rows]

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a DataFrame. pandas is no dependency of gradtrace; it must be installed."""
        import pandas

        return pandas.DataFrame(self.rows, columns=list(self.columns))


@dataclass(frozen=True)
class Subgraph:
    """Nodes and relationships to draw, each once.

    Attributes:
        nodes: dictionaries with `id`, `labels` and `properties`.
        relationships: dictionaries with `id`, `type`, `start`, `end` (ids of nodes) and `properties`.
        truncated: whether rows beyond the cap were cut off.
    """

    nodes: list[dict[str, Any]]
    relationships: list[dict[str, Any]]
    truncated: bool = False
