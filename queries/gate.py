"""What a query may do when it may only read.

The server enforces read access itself, but in a read session it still fetches URLs (LOAD CSV), ends other people's
transactions (TERMINATE), shows settings (SHOW) and calls procedures. So before a query runs, two looks are taken, and
what is not known to be harmless is refused:

1. `check_text`: at its tokens. One statement, no prefix that changes how it runs, no other database, no functions
   from plugins, no escapes that the server would unfold into other tokens, no list of a billion numbers in memory.
2. `check_plan`: at the plan that the server makes of it (EXPLAIN runs nothing). Each plan operator must be on the list
   of reading ones, each procedure on the list of those that only describe the store.

This module imports no driver: `gradtrace.queries.runner` asks the server and hands the plan over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradtrace.queries.lexer import Token, tokens
from gradtrace.queries.plan import bare_name, walk
from gradtrace.tracer.errors import QueryError, QueryRefusedError

ALLOWED_PROCEDURES = frozenset(
    {
        "db.labels",
        "db.relationshiptypes",
        "db.propertykeys",
        "db.schema.visualization",
        "db.schema.nodetypeproperties",
        "db.schema.reltypeproperties",
    }
)
"""Procedures that only describe what the store holds, in lower case."""

LARGEST_RANGE = 1_000_000
"""Largest bound of a `range(...)` that the server would hold in memory or walk without looking at its clock."""

LONGEST_TEXT = 100_000
"""Most characters that an ad hoc query may have."""

_FUNCTION_SPACES = frozenset(
    {"date", "datetime", "localdatetime", "localtime", "time", "duration", "point", "vector", "vector.similarity"}
)
_READING_OPERATORS = """
    AntiConditionalApply AntiSemiApply Apply Argument ArgumentTracker AssertSameNode AssertSameRelationship
    BFSPruningVarExpand BidirectionalRepeat CacheProperties CartesianProduct
    ConditionalApply Distinct DynamicDirectedRelationshipTypeLookup DynamicLabelNodeLookup
    DynamicUndirectedRelationshipTypeLookup Eager EagerAggregation EmptyResult EmptyRow Expand Filter Input
    LeftOuterHashJoin LetAntiSemiApply LetSelectOrAntiSemiApply LetSelectOrSemiApply LetSemiApply Limit
    NodeCountFromCountStore NodeHashJoin NodeVectorIndexSearch NonFuseable NonPipelined NullifyMetadata Optional
    OptionalExpand OrderedAggregation OrderedDistinct OrderedUnion PartialSort PartialTop PartitionedUnwind
    ProduceResults ProjectEndpoints Projection PruningVarExpand RelationshipCountFromCountStore
    RemoteBatchProperties Repeat RightOuterHashJoin RollUpApply SelectOrAntiSemiApply SelectOrSemiApply
    SemiApply ShortestPath Skip Sort StatefulShortestPath Top Top1WithTies TriadicBuild TriadicFilter
    TriadicSelection Union Unwind UnwindCollection ValueHashJoin VarLengthExpand
"""
_READING = frozenset(_READING_OPERATORS.split())
"""Plan operators that only read, of Neo4j 5.26 and 2026; those that find where to start are told by their names:"""
_FINDING = re.compile(
    r"""
      (Partitioned)?(Multi|AssertingMulti)?Node(Unique)?Index(Seek|SeekByRange|Scan|ContainsScan|EndsWithScan)
    | (Partitioned)?(Directed|Undirected)Relationship(Unique)?Index(Seek|SeekByRange|Scan|ContainsScan|EndsWithScan)
    | AssertingMultiRelationshipIndexSeek
    | (Partitioned)?(Directed|Undirected)(Union)?(All)?Relationships?(Type|Types)?Scan
    | (Partitioned)?(AllNodes|((Union|Intersection|Subtraction)?NodeByLabels?))Scan
    | (Node|DirectedRelationship|UndirectedRelationship)By(Element)?IdSeek
    """,
    re.VERBOSE,
)

_PREFIXES = ("EXPLAIN", "PROFILE")


def check_text(text: str, params: Mapping[str, Any] | None = None) -> None:
    """Refuse what can be told from the text alone.

    Args:
        text: a query.
        params: its parameters (bounds of `range` are looked at).

    Raises:
        QueryRefusedError: it is refused, and why.
        QueryError: it is empty or has an unclosed string.
    """
    if len(text) > LONGEST_TEXT:
        raise _refused(f"it has {len(text)} characters; the most is {LONGEST_TEXT}", "Pass long values as parameters.")
    if "\x00" in text:
        raise _refused("it holds a NUL character", "Remove it.")
    if re.search(r"\\u", text, re.IGNORECASE):
        raise _refused(
            "it holds a \\u escape, which the server unfolds before it reads the query",
            "Write the character itself, or pass the text as a parameter.",
        )
    try:
        found = tokens(text)
    except ValueError as error:
        raise QueryError(f"The query is incomplete: {error}") from error
    while found and found[-1].is_mark(";"):
        found = found[:-1]
    if not found:
        raise QueryError('The query is empty; expected Cypher such as "MATCH (r:Run) RETURN r.id".')
    if any(t.is_mark(";") for t in found):
        raise _refused("it holds several statements", "Send them one by one.")
    _check_prefix(found)
    for at, token in enumerate(found):
        _check_use(found, at)
        if token.is_mark("("):
            _check_call(found, at, params or {})


def check_plan(query_type: str | None, plan: Mapping[str, Any] | None) -> None:
    """Refuse what the server's plan shows to be more than reading.

    Args:
        query_type: the server's own judgement: `"r"` for reading.
        plan: the plan as the driver gives it (`operatorType`, `args`, `children`).

    Raises:
        QueryRefusedError: an operator or procedure is not on the lists, and which.
    """
    if plan is None:
        raise _refused("the server made no plan of it", "Only queries that read can be planned without running them.")
    for operator, details in _operators(plan):
        if operator == "ProcedureCall":
            name = re.split(r"[(\s:]", details.strip(), maxsplit=1)[0].replace("`", "")
            if name.lower() not in ALLOWED_PROCEDURES:
                raise _refused(
                    f"it calls the procedure {name or '?'}", f"Allowed are: {', '.join(sorted(ALLOWED_PROCEDURES))}."
                )
        elif reason := _REASONS.get(operator):
            raise _refused(*reason)
        elif operator not in _READING and not _FINDING.fullmatch(operator):
            raise _refused(f"its plan holds the operator {operator}, which is not known to only read", _HOW_TO_WRITE)
    if query_type != "r":
        raise _refused("the server says that it does more than read", _HOW_TO_WRITE)


_HOW_TO_WRITE = "To change the store on purpose, use `gradtrace cypher --write` (in Python: write=True)."
_REASONS = {
    "LoadCSV": ("LOAD CSV makes the server fetch a file or URL", "Read the file yourself and pass it as a parameter."),
    "TransactionApply": ("CALL {...} IN TRANSACTIONS commits by itself", "Leave IN TRANSACTIONS out to read."),
    "TransactionForeach": ("CALL {...} IN TRANSACTIONS commits by itself", _HOW_TO_WRITE),
    "TerminateTransactions": ("TERMINATE ends other people's transactions", "Ask the server's administrator."),
    "AdministrationCommand": ("it is a command to the server and no query", "Ask the server's administrator."),
    "RunQueryAt": ("it runs on another database (USE)", "Leave USE out."),
    **{
        name: (f"it writes ({name})", _HOW_TO_WRITE)
        for name in (
            "Create", "Merge", "LockingMerge", "Delete", "DetachDelete", "DeleteExpression", "DetachDeleteExpression",
            "DeleteNode", "DeletePath", "DeleteRelationship", "DetachDeleteNode", "DetachDeletePath", "SetProperty",
            "SetProperties", "SetNodeProperty", "SetNodeProperties", "SetNodePropertiesFromMap", "SetPropertiesFromMap",
            "SetRelationshipProperty", "SetRelationshipProperties", "SetRelationshipPropertiesFromMap", "SetLabels",
            "SetDynamicProperty", "RemoveLabels", "Foreach", "SubqueryForeach", "CreateIndex", "DropIndex",
            "CreateConstraint", "DropConstraint", "DoNothingIfExists", "DoNothingIfNotExists",
        )
    },
}  # fmt: skip
_SHOW = re.compile(r"Show\w*")


def _operators(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every operator of a plan by its bare name (`"Expand"` for `"Expand(All)@neo4j"`), with its details."""
    for _, node in walk(plan):
        name = bare_name(node).partition("(")[0].strip()
        if _SHOW.fullmatch(name):
            raise _refused("SHOW tells about the server, not about what is stored", "Leave SHOW out.")
        yield name, str(node.get("args", {}).get("Details", ""))


def _check_prefix(found: Sequence[Token]) -> None:
    """EXPLAIN and PROFILE are options of the caller; of CYPHER only the language version may be chosen."""
    rest = list(found)
    if rest[0].upper == "CYPHER":
        rest = rest[1:]
        if rest and rest[0].kind == "number" and rest[0].text in ("5", "25"):
            rest = rest[1:]
        if len(rest) > 1 and rest[1].is_mark("="):
            raise _refused("it sets options of the server (CYPHER ...=...)", "Only CYPHER 5 and CYPHER 25 are allowed.")
    if rest and rest[0].upper in (*_PREFIXES, "CYPHER"):
        raise _refused(f"it starts with {rest[0].upper}", "Leave it out: the plan is asked for by an option.")


def _check_use(found: Sequence[Token], at: int) -> None:
    """USE where a clause may start. A property or variable of that name stands elsewhere."""
    if found[at].upper != "USE" or (at + 1 < len(found) and found[at + 1].kind == "mark"):
        return
    before = found[at - 1] if at else None
    if (
        before is None
        or before.is_mark("{")
        or before.upper in ("UNION", "ALL", "DISTINCT", "CYPHER", "NEXT")
        or before.kind == "number"
    ):
        raise _refused("it chooses another database (USE)", "Leave USE out: gradtrace has one database.")


def _check_call(found: Sequence[Token], at: int, params: Mapping[str, Any]) -> None:
    """A function call whose bracket opens at `at`: namespaced functions, and ranges."""
    start = at - 1
    if start < 0 or found[start].kind not in ("word", "quoted"):
        return
    while start >= 2 and found[start - 1].is_mark(".") and found[start - 2].kind in ("word", "quoted"):
        start -= 2
    name = ".".join(t.name for t in found[start:at:2]).lower()
    space, _, _ = name.rpartition(".")
    called = start > 0 and found[start - 1].upper == "CALL"
    if space and space not in _FUNCTION_SPACES and not (called and name in ALLOWED_PROCEDURES):
        kind = "procedure" if called else "function"
        raise _refused(f"it calls the {kind} {name}", "Only functions that every Neo4j has are allowed.")
    if name == "range" and not (start > 0 and found[start - 1].upper == "UNWIND"):
        _check_range(found, at, params)


def _check_range(found: Sequence[Token], at: int, params: Mapping[str, Any]) -> None:
    """No range that a list comprehension or reduce would hold in memory, deaf to the time limit."""
    for token in found[at + 1 :]:
        if token.depth <= found[at].depth:
            return
        value: Any = None
        if token.kind == "number":
            value = _number(token.text)
        elif token.kind == "param":
            value = params.get(token.name)
        if isinstance(value, (int, float)) and abs(value) > LARGEST_RANGE:
            raise _refused(
                f"it makes a list up to {token.text}; the most is {LARGEST_RANGE}",
                "UNWIND range(...) goes through numbers one by one and has no such limit.",
            )


def _number(text: str) -> float:
    try:
        return float(int(text, 0)) if re.fullmatch(r"0[xXoO]\w+|[1-9][\d_]*|0", text) else float(text)
    except ValueError:
        return float("inf")  # no number that Python knows: to be refused


def _refused(reason: str, advice: str) -> QueryRefusedError:
    return QueryRefusedError(f"Refused: {reason}. {advice}")
