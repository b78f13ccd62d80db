"""Reads one question from its file: a typed header in comment lines, then the query.

    // question = "Which runs are there?"
    // group = "health"
    //
    // [parameters]
    // limit = { type = "int", default = 50, min = 1, about = "Rows at most." }
    //
    // [columns]
    // run = { type = "text", about = "Id of the run." }
    //
    // [example]
    // run = "char-lstm-20261123-231501-7f3a"
    MATCH (r:Run)
    RETURN r.id AS run
    ORDER BY run LIMIT $limit

The header is TOML behind `//`, so that its types and its refusal of duplicate keys are those of TOML. A line
`// === subgraph ===` starts the second query, where there is one. Everything is checked: unknown keys, columns that are
not returned or not declared, parameters that are not used or not declared, examples that do not fit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gradtrace.queries.lexer import parameters, returned_columns, tokens
from gradtrace.queries.model import COLUMN_TYPES, GROUPS, PARAMETER_TYPES, Column, Lookup, Parameter, Question
from gradtrace.tracer.errors import QueryError, QueryParameterError

SUBGRAPH_MARK = "// === subgraph ==="

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_HEADER_KEYS = {"question", "about", "group", "parameters", "columns", "example"}
_PARAMETER_KEYS = {
    "type", "about", "required", "optional", "default", "default_from", "complete_from", "choices", "min", "max",
}  # fmt: skip
_COLUMN_KEYS = {"type", "unit", "about", "null"}
_UNITLESS = ("text", "texts", "bool", "datetime")


class QuestionFileError(QueryError):
    """The file of a question breaks the rules of its header."""


def parse(name: str, text: str) -> Question:
    """The question that a file holds.

    Args:
        name: name of the file without `.cypher`.
        text: its content.

    Raises:
        QuestionFileError: the header or the query breaks a rule; the message names file and rule.
    """
    try:
        return _parse(name, text)
    except (ValueError, QueryParameterError) as error:
        raise QuestionFileError(f"{name}.cypher: {error}") from error


def _parse(name: str, text: str) -> Question:
    if not _NAME.fullmatch(name):
        raise ValueError("The name of the file must be lower-case words with dashes between them.")
    header_text, body = _split_header(text)
    header = tomllib.loads(header_text)
    _known_keys("The header", header, _HEADER_KEYS, needed={"question", "group", "columns", "example"})
    group = _text(header, "group", "The header")
    if group not in GROUPS:
        raise ValueError(f"Group {group!r} is unknown; there are: {', '.join(GROUPS)}.")
    cypher, subgraph = _split_body(body)
    declared = {key: _parameter(key, value) for key, value in _table(header, "parameters").items()}
    columns = {key: _column(key, value) for key, value in _table(header, "columns").items()}
    _check_queries(declared, columns, cypher, subgraph)
    example = _table(header, "example")
    _check_example(columns, example)
    question = _text(header, "question", "The header")
    if not question.endswith("?"):
        raise ValueError(f"The question {question!r} does not end with a question mark.")
    return Question(
        name=name,
        group=group,
        question=question,
        about=_text(header, "about", "The header") if "about" in header else "",
        parameters=MappingProxyType(declared),
        columns=MappingProxyType(columns),
        example=MappingProxyType(dict(example)),
        cypher=cypher,
        subgraph=subgraph,
    )


def _split_header(text: str) -> tuple[str, str]:
    """Header (without its slashes) and the rest. The header ends with the first line that is no comment line."""
    lines = text.splitlines(keepends=True)
    end = next((n for n, line in enumerate(lines) if not line.startswith("//")), len(lines))
    if end == 0:
        raise ValueError("It does not start with a header in comment lines.")
    return "".join(line[2:].removeprefix(" ") for line in lines[:end]), "".join(lines[end:])


def _split_body(body: str) -> tuple[str, str | None]:
    """The query and, behind the mark, the query for the subgraph."""
    marks = [t for t in tokens(body, comments=True) if t.kind == "comment" and t.text.strip() == SUBGRAPH_MARK]
    if len(marks) > 1:
        raise ValueError(f"It has more than one line {SUBGRAPH_MARK!r}.")
    if not marks:
        return _statement(body), None
    at = marks[0].start
    return _statement(body[:at]), _statement(body[at + len(marks[0].text) :])


def _statement(text: str) -> str:
    found = tokens(text)
    if not found:
        raise ValueError("A query is missing.")
    if any(t.is_mark(";") for t in found):
        raise ValueError("A query needs no semicolon, and a file holds one query (and one for the subgraph).")
    return text.strip()


def _parameter(name: str, value: Any) -> Parameter:
    where = f"Parameter {name}"
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{where}: a name is lower-case letters, digits and underscores.")
    _known_keys(where, value, _PARAMETER_KEYS, needed={"type", "about"})
    kind = _text(value, "type", where)
    if kind not in PARAMETER_TYPES:
        raise ValueError(f"{where} has the unknown type {kind!r}; there are: {', '.join(PARAMETER_TYPES)}.")
    ways = [key for key in ("required", "optional", "default", "default_from") if key in value]
    if len(ways) != 1 or value.get("required", True) is not True or value.get("optional", True) is not True:
        raise ValueError(f"{where} needs one of: required = true, optional = true, default, default_from.")
    choices = value.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise ValueError(f"{where}: choices is a list of texts.")
    if choices and kind not in ("text", "texts"):
        raise ValueError(f"{where}: only texts have choices.")
    bounds = [value.get("min"), value.get("max")]
    if any(b is not None and (kind not in ("int", "float") or not isinstance(b, (int, float))) for b in bounds):
        raise ValueError(f"{where}: min and max are numbers, for numbers.")
    made = Parameter(
        name=name,
        type=kind,
        about=_text(value, "about", where),
        required="required" in value,
        default_from=_lookup(value, "default_from", where),
        complete_from=_lookup(value, "complete_from", where),
        choices=tuple(choices),
        minimum=bounds[0],
        maximum=bounds[1],
    )
    if "default" not in value:
        return made
    default = made.convert(value["default"])
    if type(default) is not type(value["default"]):
        raise ValueError(f"{where}: the default is {value['default']!r}; expected {made.expected}.")
    return Parameter(**{field: getattr(made, field) for field in Parameter.__slots__} | {"default": default})


def _column(name: str, value: Any) -> Column:
    where = f"Column {name}"
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{where}: a name is lower-case letters, digits and underscores.")
    _known_keys(where, value, _COLUMN_KEYS, needed={"type", "about"})
    kind = _text(value, "type", where)
    if kind not in COLUMN_TYPES:
        raise ValueError(f"{where} has the unknown type {kind!r}; there are: {', '.join(COLUMN_TYPES)}.")
    if ("unit" in value) == (kind in _UNITLESS):
        raise ValueError(f"{where} is of type {kind} and must {'not ' if kind in _UNITLESS else ''}say its unit.")
    return Column(
        name=name,
        type=kind,
        unit=_text(value, "unit", where) if "unit" in value else "",
        about=_text(value, "about", where),
        null=_text(value, "null", where) if "null" in value else "",
    )


def _lookup(value: Mapping[str, Any], key: str, where: str) -> Lookup | None:
    if key not in value:
        return None
    question, _, column = _text(value, key, where).partition(".")
    if not _NAME.fullmatch(question) or not _IDENTIFIER.fullmatch(column):
        raise ValueError(f"{where}: {key} is {value[key]!r}; expected question.column.")
    return Lookup(question, column)


def _check_queries(
    declared: Mapping[str, Parameter], columns: Mapping[str, Column], cypher: str, subgraph: str | None
) -> None:
    used = parameters(cypher) | (parameters(subgraph) if subgraph else set())
    if undeclared := sorted(used - declared.keys()):
        raise ValueError(f"Parameter {undeclared[0]} is used but not declared.")
    if unused := sorted(declared.keys() - used):
        raise ValueError(f"Parameter {unused[0]} is declared but not used.")
    for returned in returned_columns(cypher):
        if returned != tuple(columns):
            raise ValueError(f"It returns the columns {', '.join(returned)}, but declares {', '.join(columns)}.")
    if subgraph is not None:
        returned_columns(subgraph)


def _check_example(columns: Mapping[str, Column], example: Mapping[str, Any]) -> None:
    for name in example:
        if name not in columns:
            raise ValueError(f"The example has a column {name} that is not declared.")
    for column in columns.values():
        if column.name not in example and not column.null:
            raise ValueError(f"The example lacks the column {column.name}, which is never empty.")
        if column.name in example and not column.accepts(example[column.name]):
            raise ValueError(
                f"The example's {column.name} is {example[column.name]!r}; expected the type {column.type}."
            )


def _known_keys(where: str, value: Any, known: set[str], needed: set[str]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a table {{ key = value, ... }}.")
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"{where} has the unknown key {unknown[0]!r}; there are: {', '.join(sorted(known))}.")
    if missing := sorted(needed - value.keys()):
        raise ValueError(f"{where} lacks the key {missing[0]!r}.")


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key} is {value!r}; expected a text.")
    return value.strip()


def _table(header: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = header.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key} is {value!r}; expected a table.")
    return value
