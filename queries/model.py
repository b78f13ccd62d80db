"""What a question is: a typed record, made from one file of `queries/cypher/` by `gradtrace.queries.parser`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from gradtrace.tracer.errors import QueryParameterError

GROUPS = {
    "one step": "What one traced step looks like.",
    "one run": "How one run develops over its steps and epochs.",
    "many runs": "What is alike and what differs between runs.",
    "health": "What is there, and what is wrong with it.",
    "lookup": "Short lists from which the other questions take their defaults and the shell its completions.",
}
"""Groups of questions in the order in which they are shown, each with what it is for."""

PARAMETER_TYPES = {
    "text": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "texts": "a list of texts (on the command line with commas between them)",
}
"""Types of parameters, each with the words used for it in messages."""

COLUMN_TYPES: Mapping[str, type | tuple[type, ...]] = MappingProxyType(
    {"text": str, "int": int, "float": float, "bool": bool, "datetime": datetime, "texts": list, "ints": list}
)
"""Types of columns, each with its Python type."""

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class Lookup:
    """A column of another question, as the source of a default or of completions.

    Written `question.column`. That question is asked with the parameters of the same name that are known already; a
    default is the column's value in the first row.
    """

    question: str
    column: str

    def __str__(self) -> str:
        return f"{self.question}.{self.column}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a question.

    Attributes:
        name: as used in Cypher (`$run`).
        type: a key of `PARAMETER_TYPES`.
        about: what it is, in one sentence.
        required: whether it has to be given.
        default: its value if it is not given and `default_from` is None.
        default_from: where its value comes from if it is not given.
        complete_from: where the values come from that the shell offers.
        choices: the only values allowed, or empty for no such limit.
        minimum: least value allowed, or None.
        maximum: greatest value allowed, or None.
    """

    name: str
    type: str
    about: str
    required: bool = False
    default: Any = None
    default_from: Lookup | None = None
    complete_from: Lookup | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def convert(self, value: object) -> Any:
        """The value as Neo4j is to get it. Texts (from a command line) are read by the parameter's type.

        Args:
            value: a Python value of the right type, a text that spells one, or None where the default is None.

        Raises:
            QueryParameterError: the value is of another type, out of range or not among the choices.

        >>> Parameter("limit", "int", "Rows at most.", default=20).convert("5")
        5
        """
        if value is None:
            if not self.required and self.default is None and self.default_from is None:
                return None
            raise self._refuse(value)
        made = self._typed(value)
        if self.choices and any(one not in self.choices for one in (made if self.type == "texts" else [made])):
            raise self._refuse(value)
        if isinstance(made, (int, float)) and (
            (self.minimum is not None and made < self.minimum) or (self.maximum is not None and made > self.maximum)
        ):
            raise self._refuse(value)
        return made

    @property
    def expected(self) -> str:
        """What its values look like, in words (`"a whole number, at least 1"`)."""
        words = "one of " + ", ".join(self.choices) if self.choices else PARAMETER_TYPES[self.type]
        if self.minimum is not None:
            words += f", at least {self.minimum:g}"
        if self.maximum is not None:
            words += f", at most {self.maximum:g}"
        return words

    def _typed(self, value: object) -> Any:
        if isinstance(value, str) and not value:
            raise self._refuse(value)
        read = {"text": _read_text, "texts": _read_texts, "bool": _read_bool, "int": _read_int, "float": _read_float}
        try:
            return read[self.type](value)
        except (ValueError, OverflowError) as error:
            raise self._refuse(value) from error

    def _refuse(self, value: object) -> QueryParameterError:
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        return QueryParameterError(f"Parameter {self.name} is {shown}; expected {self.expected}.")


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    value.encode()  # half a character, as a shell passes on undecodable bytes, cannot be sent
    return value


def _read_texts(value: object) -> list[str]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)) or not all(value):
        raise ValueError
    return [_read_text(part) for part in value]


def _read_bool(value: object) -> bool:
    if isinstance(value, str) and value.strip().lower() in (*_TRUE, *_FALSE):
        return value.strip().lower() in _TRUE
    if not isinstance(value, bool):
        raise ValueError
    return value


def _read_int(value: object) -> int:
    whole = int(value) if isinstance(value, str) else value
    if not isinstance(whole, int) or isinstance(whole, bool) or not -(2**63) <= whole < 2**63:
        raise ValueError
    return whole


def _read_float(value: object) -> float:
    number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise ValueError
    return number


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer.

    Attributes:
        name: its name in the rows.
        type: a key of `COLUMN_TYPES`.
        unit: what its values count or measure (`"fraction"`, `"step"`); `""` for names and texts.
        about: what it means, in one sentence.
        null: when it is empty, in words; `""` where it never is.
    """

    name: str
    type: str
    unit: str
    about: str
    null: str = ""

    def accepts(self, value: object) -> bool:
        """Whether a value is of this column's type (an empty one only where the column says when it is empty)."""
        if value is None:
            return bool(self.null)
        if self.type == "float":
            return isinstance(value, float)
        if self.type == "int":
            return isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, COLUMN_TYPES[self.type]):
            return False
        inner = {"texts": str, "ints": int}.get(self.type)
        return inner is None or (isinstance(value, list) and all(isinstance(v, inner) for v in value))


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the library.

    Attributes:
        name: its name in the library, on the command line, and of its file.
        group: a key of `GROUPS`.
        question: what it asks, in plain words.
        about: more on how to read the answer; may be `""`.
        parameters: its parameters by name, in the order in which defaults are looked up.
        columns: its columns by name, in order.
        example: one row as an answer may hold it.
        cypher: the query.
        subgraph: a second query with the same parameters that returns nodes, relationships or paths to draw; or None.
    """

    name: str
    group: str
    question: str
    about: str
    parameters: Mapping[str, Parameter]
    columns: Mapping[str, Column]
    example: Mapping[str, Any]
    cypher: str
    subgraph: str | None = None

    def convert(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The parameters that were given, each by its type. Defaults are not filled in.

        Raises:
            QueryParameterError: one is unknown, of the wrong type, or required and missing.
        """
        for name in given:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise QueryParameterError(
                    f"The question {self.name} has no parameter {name!r}{did_you_mean(name, self.parameters)} "
                    f"Its parameters: {known}."
                )
        for parameter in self.parameters.values():
            if parameter.required and given.get(parameter.name) is None:
                raise QueryParameterError(
                    f"The question {self.name} needs the parameter {parameter.name} ({parameter.expected}): "
                    f"{parameter.about} Give it with -p {parameter.name}=... or {parameter.name}=... in Python."
                )
        # None says "not given" for a parameter that has a default of its own.
        return {name: self.parameters[name].convert(value) for name, value in given.items() if value is not None}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that names close matches: `"; did you mean runs?"`, or `"."` where nothing is close."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else "."
