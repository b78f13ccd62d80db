"""What the header of a question's file must be like."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gradtrace.queries.lexer import parameters, returned_columns, tokens
from gradtrace.queries.model import Parameter, Question
from gradtrace.queries.parser import QuestionFileError, parse
from gradtrace.queries.registry import checked, registry
from gradtrace.tracer.errors import QueryParameterError

GOOD = """\
// question = "Which things have a // in their name?"
// group = "health"
// about = "See https://example.org/a//b."
//
// [parameters]
// limit = { type = "int", default = 5, min = 1, max = 9, about = "Things at most." }
// name = { type = "text", optional = true, about = "Only this one." }
//
// [columns]
// thing = { type = "text", about = "Its name." }
// count = { type = "int", unit = "count", about = "How many.", null = "nobody counted" }
//
// [example]
// thing = "a//b"
MATCH (n:Thing) // a comment with $unused and "
WHERE n.url STARTS WITH 'http://x//' AND ($name IS NULL OR n.name = $name) /* $neither */
RETURN n.name AS thing, n.count AS count ORDER BY thing LIMIT $limit
"""
SUBGRAPH = "// === subgraph ===\nMATCH (n:Thing) WHERE n.name = '// === subgraph ===' RETURN n\n"


def test_a_good_file() -> None:
    question = parse("some-things", GOOD + SUBGRAPH)
    assert (question.name, question.group) == ("some-things", "health")
    assert question.question == "Which things have a // in their name?"
    assert question.about == "See https://example.org/a//b."
    assert list(question.parameters) == ["limit", "name"] and list(question.columns) == ["thing", "count"]
    assert question.parameters["limit"].default == 5 and not question.parameters["limit"].required
    assert question.cypher.startswith("MATCH (n:Thing) // a comment") and question.cypher.endswith("LIMIT $limit")
    assert "'http://x//'" in question.cypher and "subgraph" not in question.cypher
    assert question.subgraph == "MATCH (n:Thing) WHERE n.name = '// === subgraph ===' RETURN n"
    assert parse("some-things", GOOD).subgraph is None


BROKEN = {
    "no header": ("// question", "question", "does not start with a header"),
    "unknown key": ('// group = "health"', '// group = "health"\n// grupo = 1', "unknown key 'grupo'"),
    "duplicate key": ('// group = "health"', '// group = "health"\n// group = "health"', "Cannot overwrite"),
    "duplicate parameter": ("// name = {", "// limit = {", "Cannot overwrite|Duplicate"),
    "duplicate column": ("// count = {", "// thing = {", "Cannot overwrite|Duplicate"),
    "no group": ('// group = "health"\n', "", "lacks the key 'group'"),
    "unknown group": ('"health"', '"hearth"', "Group 'hearth' is unknown"),
    "no question mark": ("in their name?", "in their name", "question mark"),
    "empty about": ('"See https://example.org/a//b."', '" "', "expected a text"),
    "unknown parameter key": ("min = 1", "mim = 1", "unknown key 'mim'"),
    "unknown parameter type": ('type = "int", default', 'type = "integer", default', "unknown type 'integer'"),
    "two ways to a default": ("optional = true", "optional = true, required = true", "needs one of"),
    "no way to a default": ("optional = true, ", "", "needs one of"),
    "optional = false": ("optional = true", "optional = false", "needs one of"),
    "default of another type": ("default = 5", 'default = "5"', "the default is '5'"),
    "default out of range": ("default = 5", "default = 50", "expected a whole number, at least 1, at most 9"),
    "bounds of a text": ("optional = true", "optional = true, min = 3", "min and max are numbers"),
    "choices of a number": ("min = 1", 'min = 1, choices = ["1"]', "only texts have choices"),
    "malformed lookup": ("optional = true", 'default_from = "runs"', "expected question.column"),
    "parameter without about": (', about = "Only this one."', "", "lacks the key 'about'"),
    "parameter that is no table": (
        '{ type = "text", optional = true, about = "Only this one." }',
        "3",
        "must be a table",
    ),
    "parameter in capitals": ("// name = {", "// Name = {", "lower-case"),
    "parameter not used": ("($name IS NULL OR n.name = $name)", "TRUE", "Parameter name is declared but not used"),
    "parameter only in a comment": ("$name IS NULL OR n.name = $name", "TRUE /* $name */", "declared but not used"),
    "parameter only in a string": ("$name IS NULL OR n.name = $name", "n.name = '$name'", "declared but not used"),
    "parameter not declared": ("LIMIT $limit", "SKIP $skip LIMIT $limit", "Parameter skip is used but not declared"),
    "unknown column type": ('type = "text", about = "Its', 'type = "str", about = "Its', "unknown type 'str'"),
    "number without unit": ('unit = "count", ', "", "must say its unit"),
    "text with unit": (
        'type = "text", about = "Its',
        'type = "text", unit = "m", about = "Its',
        "must not say its unit",
    ),
    "column not returned": (", n.count AS count", "", "returns the columns thing, but declares thing, count"),
    "column not declared": ("ORDER BY", ", 1 AS one ORDER BY", "returns the columns thing, count, one"),
    "columns in another order": (
        "n.name AS thing, n.count AS count",
        "n.count AS count, n.name AS thing",
        "returns the columns count, thing",
    ),
    "column without a name": ("n.count AS count", "n.count", "has no name: write `n . count AS name`"),
    "union with other columns": ("MATCH (n:Thing)", "RETURN 1 AS one UNION MATCH (n:Thing)", "returns the columns one"),
    "no return": ("RETURN n.name AS thing, n.count AS count ORDER BY thing", "WITH n", "has no RETURN"),
    "no query": (GOOD[GOOD.index("MATCH") :], "// more = 1\n", "A query is missing|unknown key"),
    "two statements": ("LIMIT $limit", "LIMIT $limit; MATCH (n) DETACH DELETE n", "no semicolon"),
    "unclosed string": ("'http://x//'", "'http://x//", "never closed"),
    "example misses a column": ('// thing = "a//b"\n', "", "lacks the column thing"),
    "example has another column": ('// thing = "a//b"', '// thing = "a//b"\n// thin = 1', "column thin that is not"),
    "example of another type": ('// thing = "a//b"', "// thing = 3", "expected the type text"),
    "no example": ('// [example]\n// thing = "a//b"\n', "", "lacks the key 'example'"),
    "no TOML": ('// group = "health"', "// group: health", "Expected"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_header_is_refused(name: str) -> None:
    old, new, message = BROKEN[name]
    assert old in GOOD
    with pytest.raises(QuestionFileError, match=rf"some-things\.cypher: .*({message})"):
        parse("some-things", GOOD.replace(old, new, 1))


def test_other_refusals() -> None:
    with pytest.raises(QuestionFileError, match="lower-case words with dashes"):
        parse("Some_Things", GOOD)
    with pytest.raises(QuestionFileError, match="more than one line"):
        parse("some-things", GOOD + SUBGRAPH + SUBGRAPH)
    with pytest.raises(QuestionFileError, match="A query is missing"):
        parse("some-things", GOOD + "// === subgraph ===\n")
    with pytest.raises(QuestionFileError, match="has no RETURN"):
        parse("some-things", GOOD + "// === subgraph ===\nMATCH (n)\n")


def test_lookups_must_lead_somewhere() -> None:
    asking = parse("asking", GOOD.replace("optional = true", 'default_from = "asked.thing"'))
    asked = parse("asked", GOOD)
    assert list(checked({"asking": asking, "asked": asked})) == ["asking", "asked"]
    with pytest.raises(QuestionFileError, match=r"looks up asked\.thing, which is not there"):
        checked({"asking": asking})
    with pytest.raises(QuestionFileError, match="which looks up the same"):
        checked({"asked": parse("asked", GOOD.replace("optional = true", 'default_from = "asked.thing"'))})
    needy = parse("asked", GOOD.replace("optional", "required").replace("name", "title"))
    with pytest.raises(QuestionFileError, match="needs title: declare that one before"):
        checked({"asking": asking, "asked": needy})


@pytest.mark.parametrize("question", registry().values(), ids=lambda q: q.name)
def test_the_library_is_in_order(question: Question) -> None:
    assert question.name in registry() and question.example
    assert "ORDER BY" in question.cypher, "its rows come in no fixed order"
    lines = (question.cypher + "\n" + (question.subgraph or "")).splitlines()
    assert max(map(len, lines)) <= 120
    # Parameters always, literals never: values of users are not written into the text.
    assert not re.search(r"(run|mode|batch|parameter)\s*(=|:)\s*'", question.cypher)


def test_tokens() -> None:
    text = r"""MATCH (`a ``//`) WHERE 'it\'s // no' = "/* no */" // yes 'x
RETURN 1..2, $`p q`, $r /* 'yes */ , .5, 1e-3"""
    assert [t.text for t in tokens(text) if t.kind in ("string", "quoted")] == [
        "`a ``//`",
        r"'it\'s // no'",
        '"/* no */"',
    ]
    assert [t.text for t in tokens(text, comments=True) if t.kind == "comment"] == ["// yes 'x", "/* 'yes */"]
    assert parameters(text) == {"p q", "r"}
    assert [t.text for t in tokens(text) if t.kind == "number"] == ["1", "2", "5", "1e-3"]
    assert tokens("``")[0].name == "" and tokens("`a``b`")[0].name == "a`b"
    assert returned_columns(
        "CALL () { RETURN 1 AS a } RETURN [x IN b | x] AS c, `d e` UNION RETURN 1 AS c, 2 AS `d e`"
    ) == [
        ("c", "d e"),
        ("c", "d e"),
    ]
    for open_text in ("RETURN '", 'RETURN "a', "RETURN `", "RETURN 1 /* "):
        with pytest.raises(ValueError, match="line 1 is never closed"):
            tokens(open_text)


CONVERTED: list[tuple[dict[str, Any], Any, Any]] = [
    ({"type": "int"}, "5", 5),
    ({"type": "int"}, " -7 ", -7),
    ({"type": "int"}, 5, 5),
    ({"type": "float"}, "1e-3", 0.001),
    ({"type": "float"}, 2, 2.0),
    ({"type": "bool"}, "Yes", True),
    ({"type": "bool"}, "off", False),
    ({"type": "bool"}, True, True),
    ({"type": "text"}, " ünï code ", " ünï code "),
    ({"type": "text", "choices": ("a", "b")}, "b", "b"),
    ({"type": "texts"}, "a, b,c", ["a", "b", "c"]),
    ({"type": "texts"}, ("a, b", "c"), ["a, b", "c"]),
    ({"type": "text"}, None, None),
]
UNCONVERTED: list[tuple[dict[str, Any], Any, str]] = [
    ({"type": "int"}, "five", "is 'five'; expected a whole number"),
    ({"type": "int"}, "5.0", "a whole number"),
    ({"type": "int"}, 5.0, "a whole number"),
    ({"type": "int"}, True, "a whole number"),
    ({"type": "int"}, "", "a whole number"),
    ({"type": "int"}, str(2**63), "a whole number"),
    ({"type": "int", "minimum": 1}, "0", "a whole number, at least 1"),
    ({"type": "int", "maximum": 3}, 4, "at most 3"),
    ({"type": "float"}, "nan", "a number"),
    ({"type": "float"}, "1e999", "a number"),
    ({"type": "float"}, False, "a number"),
    ({"type": "float"}, [1.0], "a number"),
    ({"type": "bool"}, "maybe", "true or false"),
    ({"type": "bool"}, 1, "true or false"),
    ({"type": "text"}, "", "text"),
    ({"type": "text"}, 5, "is 5; expected text"),
    ({"type": "text"}, "half \ud83d", "text"),
    ({"type": "text", "choices": ("a", "b")}, "c", "one of a, b"),
    ({"type": "texts"}, ["a", 1], "a list of texts"),
    ({"type": "texts"}, ["a", ""], "a list of texts"),
    ({"type": "texts", "choices": ("a", "b")}, "a,c", "one of a, b"),
    ({"type": "text", "default": "x"}, None, "is None; expected text"),
]


@pytest.mark.parametrize(("declared", "given", "expected"), CONVERTED)
def test_values_are_converted_by_type(declared: dict[str, Any], given: Any, expected: Any) -> None:
    made = Parameter("p", about="A.", **declared).convert(given)
    assert made == expected and type(made) is type(expected)


@pytest.mark.parametrize(("declared", "given", "message"), UNCONVERTED)
def test_other_values_are_refused_with_what_was_expected(declared: dict[str, Any], given: Any, message: str) -> None:
    with pytest.raises(QueryParameterError, match=f"Parameter p .*{message}"):
        Parameter("p", about="A.", **declared).convert(given)
