"""Rows as people read them: `row.share`, `row["share"]`, `table.to_pandas()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any


class Row(dict[str, Any]):
    """One row: a dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"This row has no column {name!r}; it has {', '.join(self)}.") from None


class Table(list[Row]):
    """Rows with equal columns, in order."""

    @classmethod
    def of(cls, records: Iterable[Any], **extra: Iterable[Any]) -> Table:
        """Rows from dataclass instances; `extra` are further columns, one value a record."""
        columns = {name: list(values) for name, values in extra.items()}
        table = cls()
        for at, record in enumerate(records):
            row = Row({f.name: getattr(record, f.name) for f in dataclasses.fields(record)})
            row.update({name: values[at] for name, values in columns.items()})
            table.append(row)
        return table

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame (pandas must be installed)."""
        try:
            import pandas  # optional: only users of DataFrames need it
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install pandas") from error
        return pandas.DataFrame(list(self))
