"""Runs questions and ad hoc Cypher against a store: read access, the gate, a time limit, a row cap, plain errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from neo4j import READ_ACCESS, WRITE_ACCESS, Driver, GraphDatabase, Query, Session

from gradtrace.queries.answer import Answer, Subgraph
from gradtrace.queries.gate import check_plan, check_text
from gradtrace.queries.known import IS_THERE
from gradtrace.queries.model import Parameter, Question, did_you_mean
from gradtrace.queries.packed import LIMIT, MOST, packed
from gradtrace.queries.plan import EXPLAINED, PROFILED, plan_rows, scans
from gradtrace.queries.registry import find, registry
from gradtrace.queries.values import plain, subgraph_of
from gradtrace.queries.within import plainly, within
from gradtrace.tracer.errors import QueryError, QueryParameterError

TIMEOUT = 30.0
"""Seconds that a query may take unless told otherwise."""

ROW_CAP = 10_000
"""Rows of an answer unless told otherwise."""

_FETCH = 500
_MOST = 5_000  # values among which a misspelt one is looked for

# The driver logs the server's hints; without this, Python prints them on stderr where an application set up no logging.
logging.getLogger("neo4j.notifications").addHandler(logging.NullHandler())


class Library:
    """The question library over one store.

    Args:
        driver: a driver connected to the store; it stays the caller's to close.
        database: name of the database; None for the one that the server gives this user.
        timeout: seconds that a question may take.
        limit: most rows of an answer.

    Example:
        >>> lib = Library(driver)                                          # doctest: +SKIP
        >>> for row in lib.run("components-by-epoch", run="r1").rows:      # doctest: +SKIP
        ...     print(row["epoch"], row["component"], row["share"])
    """

    def __init__(
        self, driver: Driver, database: str | None = "neo4j", *, timeout: float = TIMEOUT, limit: int = ROW_CAP
    ) -> None:
        self._driver = driver
        self._database = database
        self._timeout = timeout
        self._limit = limit
        self._passed: set[str] = set()  # questions whose plan the gate has seen

    @classmethod
    @contextmanager
    def connect(
        cls, uri: str, user: str, password: str, database: str | None = "neo4j", **settings: Any
    ) -> Iterator[Library]:
        """A library over the server at an address, with a connection of its own for the length of a `with` block.

        Args:
            uri: address (`"bolt://localhost:7687"`).
            user: name of the user.
            password: its password.
            database: name of the database; None for the one that the server gives this user.
            settings: `timeout` and `limit`, as for the class.

        For the embedded server use `gradtrace.service.store.connect`, which finds and starts it.
        """
        with plainly(TIMEOUT):
            driver = GraphDatabase.driver(uri, auth=(user, password))
        with driver:
            yield cls(driver, database, **settings)

    def questions(self) -> list[Question]:
        """All questions, group by group."""
        return list(registry().values())

    def run(self, name: str, /, **params: object) -> Answer:
        """Ask a question of the library.

        Args:
            name: its name (`"components-by-epoch"`).
            params: its parameters; those left out (or None) take their defaults.

        Raises:
            UnknownQueryError: there is no question of that name.
            QueryParameterError: a parameter is unknown, missing or of the wrong type.
            QueryTimeoutError: it took longer than the time limit.
            StoreUnreachableError, StoreAuthError: the store does not answer, or refuses the credentials.
        """
        started = time.perf_counter()
        question = find(name)
        asked = self.resolve(question, params)
        answer = self._answered(question, asked, self._limit)
        notes = answer.notes
        if not answer.rows:
            notes += tuple(self._why_empty(question, asked, params))
        return Answer(
            name=name,
            columns=tuple(question.columns),
            rows=answer.rows,
            parameters=asked,
            truncated=answer.truncated,
            notes=notes,
            seconds=time.perf_counter() - started,
            types=tuple(column.type for column in question.columns.values()),
        )

    def stream(self, name: str, /, **params: object) -> Generator[dict[str, Any], None, None]:
        """The rows of a question one by one as the server sends them, without a row cap.

        Raises what `run` raises, when the first row is asked for or later.
        """
        question = find(name)
        asked = self.resolve(question, params)
        yield from self.stream_cypher(question.cypher, asked)

    def subgraph(self, name: str, /, **params: object) -> Subgraph:
        """The nodes and relationships to draw with a question's answer.

        Raises:
            QueryError: the question has no subgraph. Otherwise what `run` raises.
        """
        question = find(name)
        if question.subgraph is None:
            able = ", ".join(q.name for q in self.questions() if q.subgraph is not None)
            raise QueryError(f"The question {name} has no subgraph. These have one: {able}.")
        asked = self.resolve(question, params)
        text = question.subgraph

        def read() -> Subgraph:
            with self._session(READ_ACCESS) as session:
                self._pass_gate(session, text, asked)
                records = list(islice(session.run(_query(text, self._timeout), asked), self._limit + 1))
            return subgraph_of([r.values() for r in records[: self._limit]], truncated=len(records) > self._limit)

        return within(read, self._timeout)

    def cypher(
        self,
        text: str,
        params: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        timeout: float | None = None,
        limit: int | None = None,
    ) -> Answer:
        """Run ad hoc Cypher, read-only unless `write` is set.

        Args:
            text: one statement.
            params: values of its `$parameters`.
            write: skip the read-only gate and open a writing session.
            timeout: seconds; the library's own limit if not given.
            limit: most rows; the library's own limit if not given. More are cut off, and the answer says so.

        Raises:
            QueryRefusedError: the gate refused it.
            QueryError: it is no Cypher, or the server failed on it. Otherwise what `run` raises.
        """
        seconds = self._timeout if timeout is None else timeout
        rows = self._limit if limit is None else limit
        if not seconds > 0 or rows < 1:
            raise QueryParameterError(f"timeout is {seconds} and limit is {rows}; expected more than 0 of each.")
        access = WRITE_ACCESS if write else READ_ACCESS
        return self._collect(text, dict(params or {}), access, seconds, rows, hints=not write)

    def explain(self, text: str, params: Mapping[str, Any] | None = None) -> Answer:
        """The plan that the server makes of a query, operator by operator (`plan.EXPLAINED`); the query is not run.

        Raises what `cypher` raises; a query that does more than read is refused.
        """
        return self._planned(text, dict(params or {}), self._timeout, ran=False)

    def profile(self, text: str, params: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Answer:
        """Run a query to its end and return not its rows but its plan, with what each operator did (`plan.PROFILED`).

        Raises what `cypher` raises; a query that does more than read is refused, and none of it runs.
        """
        return self._planned(text, dict(params or {}), self._timeout if timeout is None else timeout, ran=True)

    def stream_cypher(
        self, text: str, params: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """The rows of a read-only query one by one as the server sends them, without a row cap."""
        seconds = self._timeout if timeout is None else timeout
        asked = dict(params or {})
        with plainly(seconds), self._session(READ_ACCESS) as session:
            self._pass_gate(session, text, asked)
            for record in session.run(_query(text, seconds), asked):
                yield {key: plain(value) for key, value in record.items()}

    def complete(self, name: str, parameter: str, prefix: str = "", /, **params: object) -> list[str]:
        """Values that a parameter may take, for the shell.

        Args:
            name: name of the question.
            parameter: one of its parameters.
            prefix: what the values must start with.
            params: other parameters that are known already (texts will do).
        """
        declared = find(name).parameters.get(parameter)
        if declared is None:
            return []
        if declared.choices or declared.type == "bool":
            values = list(declared.choices or ("true", "false"))
        elif declared.complete_from is not None:
            source = find(declared.complete_from.question)
            known = {k: v for k, v in params.items() if k in source.parameters and k != parameter}
            found = self.run(source.name, **known).rows
            values = [str(row[declared.complete_from.column]) for row in found]
        else:
            values = []
        return [v for v in dict.fromkeys(values) if v.startswith(prefix)]

    def resolve(self, question: Question, given: Mapping[str, object]) -> dict[str, Any]:
        """All parameters of a question: those given, by type, and the defaults of the rest.

        A default that is looked up is None where the store holds nothing to take it from.
        """
        values = question.convert(given)
        for parameter in question.parameters.values():
            if parameter.name not in values:
                values[parameter.name] = self._default(parameter, values)
        return {name: values[name] for name in question.parameters}

    def _default(self, parameter: Parameter, known: Mapping[str, Any]) -> Any:
        if parameter.default_from is None:
            return parameter.default
        source = find(parameter.default_from.question)
        if any(known.get(p.name) is None for p in source.parameters.values() if p.required):
            return None
        given = {k: v for k, v in known.items() if k in source.parameters and v is not None}
        asked = self.resolve(source, given)
        rows = self._answered(source, asked, 1).rows
        return rows[0][parameter.default_from.column] if rows else None

    def _why_empty(self, question: Question, asked: Mapping[str, Any], given: Mapping[str, object]) -> Iterator[str]:
        """Say of an empty answer which of its parameters names nothing that is stored."""
        for parameter in question.parameters.values():
            value = asked[parameter.name]
            if parameter.default_from is not None and value is None:
                yield f"There is nothing to take a default {parameter.name} from: the store holds no such steps yet."
                return
            if parameter.complete_from is None or value == parameter.default or given.get(parameter.name) is None:
                continue
            if self._is_there(parameter.complete_from.column, value, asked.get("experiment")):
                continue
            known = self.complete(question.name, parameter.name, **{**asked, "most": _MOST})
            if known and str(value) not in known:
                near = did_you_mean(str(value), known)
                if isinstance(value, int):
                    near = f"; the nearest is {min(known, key=lambda k: abs(int(k) - value))}."
                yield f"There is no {parameter.name} {value!r} there{near}"
                return

    def _is_there(self, column: str, value: object, experiment: object) -> bool:
        """Whether a key says that the value is stored; False also where there is no such key."""
        statement = IS_THERE.get(column)
        if statement is None:
            return False

        def read() -> bool:
            with self._session(READ_ACCESS) as session:
                found = session.run(_query(statement, self._timeout), value=value, experiment=experiment)
                return found.single() is not None

        return within(read, self._timeout)

    def _collect(
        self, text: str, params: dict[str, Any], access: str, timeout: float, limit: int, *, hints: bool = False
    ) -> Answer:
        started = time.perf_counter()

        def read() -> Answer:
            with self._session(access, hints=hints) as session:
                notes = self._pass_gate(session, text, params) if access == READ_ACCESS else ()
                result = session.run(_query(text, timeout), params)
                columns = tuple(result.keys())
                rows = [{k: plain(v) for k, v in record.items()} for record in islice(result, limit + 1)]
                if access == WRITE_ACCESS:
                    notes += _changes(result.consume().counters)
            return _cut(columns, rows, limit, params, notes, started)

        return within(read, timeout, again=access == READ_ACCESS)

    def _answered(self, question: Question, params: dict[str, Any], limit: int) -> Answer:
        """The answer to a question of the library, whose columns are known before."""
        text, columns, timeout = question.cypher, tuple(question.columns), self._timeout
        if limit >= MOST:
            return self._collect(text, params, READ_ACCESS, timeout, limit)
        started = time.perf_counter()

        def read() -> Answer:
            with self._session(READ_ACCESS) as session:
                notes = self._pass_gate(session, text, params)
                found = session.run(_query(packed(text, columns), timeout), {**params, LIMIT: limit + 1})
                rows = [dict(zip(columns, map(plain, row), strict=True)) for row in found.single(strict=True)["rows"]]
            return _cut(columns, rows, limit, params, notes, started)

        return within(read, timeout)

    def _planned(self, text: str, params: dict[str, Any], timeout: float, *, ran: bool) -> Answer:
        started = time.perf_counter()

        def read() -> Answer:
            with self._session(READ_ACCESS, hints=True) as session:
                notes = self._pass_gate(session, text, params)
                result = session.run(_query(("PROFILE " if ran else "EXPLAIN ") + text, timeout), params)
                count = sum(1 for _ in result)  # the server tells what was done only to those who read to the end
                summary = result.consume()
                plan = summary.profile if ran else summary.plan
            if plan is None:
                raise QueryError("The server sent no plan of this query.")
            rows = plan_rows(plan, ran=ran)
            if ran:
                hits = sum(row["db_hits"] or 0 for row in rows)
                notes += (f"{count} rows, {hits} accesses to the database.",)
            if found := scans(plan):
                notes += (f"It reads all of a kind: {'; '.join(dict.fromkeys(found))}. Start from a key or an index.",)
            columns = PROFILED if ran else EXPLAINED
            return Answer("", columns, rows, params, False, notes, time.perf_counter() - started)

        return within(read, timeout)

    def _pass_gate(self, session: Session, text: str, params: dict[str, Any]) -> tuple[str, ...]:
        """Let the query through the read-only gate, or raise. Returns the server's hints about it."""
        if text in self._passed:
            return ()
        check_text(text, params)
        summary = session.run(_query("EXPLAIN " + text, self._timeout), params).consume()
        check_plan(summary.query_type, summary.plan)
        if any(text in (q.cypher, q.subgraph) for q in registry().values()):
            self._passed.add(text)
            return ()
        return tuple(
            dict.fromkeys(
                f"{status.status_description.removeprefix('warn: ')}"
                for status in summary.gql_status_objects
                if status.is_notification and status.raw_severity == "WARNING"
            )
        )

    def _session(self, access: str, *, hints: bool = False) -> Session:
        return self._driver.session(
            database=self._database,
            default_access_mode=access,
            fetch_size=_FETCH,
            notifications_min_severity="WARNING" if hints else "OFF",
        )


def _cut(
    columns: tuple[str, ...],
    rows: list[dict[str, Any]],
    limit: int,
    params: dict[str, Any],
    notes: tuple[str, ...],
    started: float,
) -> Answer:
    """An answer of at most `limit` rows that says so if there are more."""
    cut = len(rows) > limit
    if cut:
        notes += (f"The answer was cut after {limit} rows; more were there.",)
    return Answer("", columns, rows[:limit], params, cut, notes, time.perf_counter() - started)


def _query(text: str, timeout: float) -> Query:
    return Query(text, timeout=timeout)


def _changes(counters: object) -> tuple[str, ...]:
    """What a writing query did, as notes (`"nodes created: 3"`)."""
    return tuple(
        f"{name.replace('_', ' ')}: {count}"
        for name, count in vars(counters).items()
        if type(count) is int and count > 0
    )
