"""Errors of the server and the driver, told in plain words and as gradtrace's own types."""

from __future__ import annotations

import re

from gradtrace.tracer.errors import (
    GradtraceError,
    QueryError,
    QueryParameterError,
    QueryRefusedError,
    QueryTimeoutError,
    StoreAuthError,
    StoreError,
    StoreUnreachableError,
)

_POSITION = re.compile(r"\(line (\d+), column (\d+) \(offset: \d+\)\)")


def unreachable(detail: str) -> StoreUnreachableError:
    """Nothing answers, or the connection broke."""
    return StoreUnreachableError(
        f"The store does not answer: {_one_line(detail)} Start it with `gradtrace db start`, or check "
        "GRADTRACE_NEO4J_URI."
    )


def translated(code: str, message: str, timeout: float) -> GradtraceError:
    """What an error of the server means for whoever asked.

    Args:
        code: Neo4j's code (`"Neo.ClientError.Statement.SyntaxError"`).
        message: the server's own message.
        timeout: the limit that the query had, in seconds.
    """
    kind, _, name = code.rpartition(".")
    said = _one_line(message)
    if name.startswith("TransactionTimedOut") or name in ("Terminated", "LockClientStopped"):
        return QueryTimeoutError(
            f"The query took longer than its limit of {timeout:g} s and was stopped. Narrow it (a LIMIT early, fewer "
            "steps, a key to start from), or raise the limit."
        )
    if name in ("Unauthorized", "CredentialsExpired", "AuthenticationRateLimit", "TokenExpired", "Forbidden"):
        return StoreAuthError(
            f"The store refuses these credentials: {said} Check GRADTRACE_NEO4J_USER and GRADTRACE_NEO4J_PASSWORD."
        )
    if name in ("AccessMode", "WriteOnReadOnlyAccessDatabase"):
        return QueryRefusedError(
            f"Refused: the query writes, and this session only reads ({said}) To change the store on purpose, use "
            "`gradtrace cypher --write` (in Python: write=True)."
        )
    if name == "ParameterMissing":
        return QueryParameterError(f"A parameter of the query has no value: {said} Give it with -p name=value.")
    if name == "DatabaseNotFound":
        return StoreError(f"The store has no such database: {said} gradtrace keeps its data in `neo4j`.")
    if "OutOfMemory" in name or name == "StackOverFlowError":
        return QueryError(
            "The query needs more memory than the server has. Aggregate before you expand, return fewer rows, or start "
            f"from a key. ({said})"
        )
    if name == "SyntaxError":
        return QueryError(f"This is not Cypher that the server understands{_where(message)}: {_unquoted(message)}")
    if kind.startswith("Neo.TransientError") or name in ("DatabaseUnavailable", "ServiceUnavailable"):
        return StoreError(f"The store is busy or starting: {said} Try again in a moment.")
    return QueryError(f"The server could not run the query: {said} ({code})")


def _where(message: str) -> str:
    """Line and column that the server names, with the word EXPLAIN that the gate puts before the query taken off."""
    found = _POSITION.search(message)
    if found is None:
        return ""
    line, column = int(found[1]), int(found[2])
    if line == 1 and '"EXPLAIN ' in message:
        column = max(1, column - len("EXPLAIN "))
    return f", line {line}, column {column}"


def _unquoted(message: str) -> str:
    """The server's message without its own position and its copy of the query."""
    found = _POSITION.search(message)
    return _one_line(message[: found.start()] if found else message)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else line + "."
