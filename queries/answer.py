"""What comes back from a question: rows of plain values, or the part of the graph to draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradtrace.tracer.errors import QueryError

if TYPE_CHECKING:
    import pandas
    import pyarrow

_PANDAS = {"float": "float64", "bool": "boolean", "datetime": "datetime64[us, UTC]"}


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
        types: type of each column, a key of `gradtrace.queries.model.COLUMN_TYPES`; `()` for ad hoc Cypher.
    """

    name: str
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    parameters: dict[str, Any] = field(default_factory=dict)
    truncated: bool = False
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    types: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        return [row[name] for row in self.rows]

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a DataFrame, times in UTC. Needs the extra `gradtrace[pandas]`.

        Columns of whole numbers that hold empty values are of the type `Int64`, so that they stay whole.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install 'gradtrace[pandas]'") from error
        frame = pandas.DataFrame(self.rows, columns=list(self.columns))
        for name, kind in zip(self.columns, self.types, strict=False):
            if kind == "int":
                frame[name] = frame[name].astype("Int64" if frame[name].isna().any() else "int64")
            elif kind in _PANDAS:
                frame[name] = frame[name].astype(_PANDAS[kind])
        return frame

    def to_arrow(self) -> pyarrow.Table:
        """The rows as an Arrow table; columns have the types that the question declares. Needs `gradtrace[arrow]`.

        Raises:
            ImportError: pyarrow is not installed.
            QueryError: a column of ad hoc Cypher holds values that no Arrow type fits (nodes, mixed types).
        """
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError("to_arrow() needs pyarrow: pip install 'gradtrace[arrow]'") from error
        kinds = {
            "text": pyarrow.string(),
            "int": pyarrow.int64(),
            "float": pyarrow.float64(),
            "bool": pyarrow.bool_(),
            "datetime": pyarrow.timestamp("us", tz="UTC"),
            "texts": pyarrow.list_(pyarrow.string()),
            "ints": pyarrow.list_(pyarrow.int64()),
        }
        types = [kinds[kind] for kind in self.types] or [None] * len(self.columns)
        arrays = []
        for name, kind in zip(self.columns, types, strict=True):
            try:
                arrays.append(pyarrow.array(self.column(name), type=kind))
            except (pyarrow.ArrowException, TypeError) as error:
                raise QueryError(
                    f"The column {name} does not fit an Arrow type: {error}. Return one plain type a column "
                    "(n.id rather than n), or use to_pandas()."
                ) from error
        return pyarrow.table(arrays, names=list(self.columns))


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
