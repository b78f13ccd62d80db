"""All questions of the library, read from `queries/cypher/` once. Imports no database driver and is quick to load."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from gradtrace.queries.model import GROUPS, Lookup, Question, did_you_mean
from gradtrace.queries.parser import QuestionFileError, parse
from gradtrace.tracer.errors import UnknownQueryError


@cache
def registry() -> Mapping[str, Question]:
    """Every question by its name, in the order of the groups and then of the alphabet.

    Raises:
        QuestionFileError: a file breaks the rules of its header, or names a question that is not there.
    """
    found = [
        parse(file.name.removesuffix(".cypher"), file.read_text(encoding="utf-8"))
        for file in files("gradtrace.queries.cypher").iterdir()
        if file.name.endswith(".cypher")
    ]
    order = list(GROUPS)
    return checked({q.name: q for q in sorted(found, key=lambda q: (order.index(q.group), q.name))})


def checked(questions: Mapping[str, Question]) -> Mapping[str, Question]:
    """The same questions, after a check that every lookup names a question and column that are there.

    Raises:
        QuestionFileError: a lookup leads nowhere, needs parameters that come after it, or asks in a circle.
    """
    for question in questions.values():
        earlier: set[str] = set()
        for parameter in question.parameters.values():
            for lookup in (parameter.default_from, parameter.complete_from):
                if lookup is not None:
                    _check_lookup(questions, question, parameter.name, lookup, earlier)
            earlier.add(parameter.name)
    return MappingProxyType(dict(questions))


def find(name: str) -> Question:
    """The question of that name.

    Raises:
        UnknownQueryError: there is none; the message names close matches.
    """
    questions = registry()
    if name not in questions:
        raise UnknownQueryError(
            f"There is no question {name!r}{did_you_mean(name, questions)} "
            f"There are {len(questions)}; `gradtrace query` lists them."
        )
    return questions[name]


def _check_lookup(
    questions: Mapping[str, Question], asking: Question, parameter: str, lookup: Lookup, earlier: set[str]
) -> None:
    where = f"{asking.name}.cypher: Parameter {parameter}"
    target = questions.get(lookup.question)
    if target is None or lookup.column not in target.columns:
        raise QuestionFileError(f"{where} looks up {lookup}, which is not there.")
    for needed in target.parameters.values():
        if needed.default_from is not None and needed.name not in earlier and needed.default_from == lookup:
            raise QuestionFileError(f"{where} looks up {lookup}, which looks up the same.")
        if needed.required and needed.name not in earlier:
            raise QuestionFileError(f"{where} looks up {lookup}, which needs {needed.name}: declare that one before.")
