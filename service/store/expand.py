"""One stored step spelt out for browsing: the values of its operator edges as relationships of their own.

Steps hold their values as arrays, which is small and quick to ask, but shows nothing in a graph browser. `expand` makes of each
edge and trace a relationship `(:Vertex)-[:WEIGHED {trace, run, step, mode, batch, idx, slot, flow, peak, traffic, mass,
dominant}]->(:Vertex)`, and `collapse` takes them away again. `Step.expanded` says that they are there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from neo4j import Driver, ManagedTransaction

from gradtrace.service.store.driver_errors import translated
from gradtrace.service.store.keys import step_key
from gradtrace.tracer.errors import BudgetError, StoreError

MOST_EDGES = 200_000
"""Relationships that one step may be spelt out into."""

_LOCK = """
MATCH (s:Step {key: $key}) SET s.lock = $token REMOVE s.lock
RETURN s.pruned IS NOT NULL AS pruned, s.expanded IS NOT NULL AS expanded,
       reduce(n = 0, size IN COLLECT { MATCH (s)-[:HAS_TRACE]->(t) RETURN size(t.traffic) } | n + size) AS edges
"""
_TRACED = "MATCH (s:Step {run: $run}) WHERE s.pruned IS NULL RETURN s.step AS step ORDER BY abs(s.step - $step) LIMIT 5"
_EXPAND = """
MATCH (s:Step {key: $key})-[:HAS_TRACE]->(t:Trace)-[:ON]->(g:Graph)
WITH s, t, g, coalesce(t.flow, s.flow) AS flow, coalesce(t.peak, s.peak) AS peak
MATCH (g)-[:HAS]->(a:Vertex)-[e:EDGE]->(b:Vertex)
CREATE (a)-[:WEIGHED {trace: t.key, run: s.run, step: s.step, mode: t.mode, batch: t.batch, idx: e.idx, slot: e.slot,
                      flow: flow[e.idx], peak: peak[e.idx], traffic: t.traffic[e.idx], mass: t.mass[e.idx],
                      dominant: t.dominant[e.idx]}]->(b)
"""
_MARK = "MATCH (s:Step {key: $key}) SET s.expanded = datetime()"
_COLLAPSE = """
UNWIND $keys AS key
MATCH (s:Step {key: key}) WHERE s.expanded IS NOT NULL
REMOVE s.expanded
WITH s
MATCH (s)-[:HAS_TRACE]->(t:Trace)-[:ON]->(:Graph)-[:HAS]->(:Vertex)-[w:WEIGHED {trace: t.key}]->(:Vertex)
DELETE w
"""


def expand(driver: Driver, run: str, step: int, database: str | None = "neo4j") -> int:
    """Spell one step out; a step that is so already stays as it is.

    Args:
        driver, database: the store.
        run: id of the run.
        step: number of a stored step.

    Returns:
        How many relationships were created.

    Raises:
        StoreError: there is no such step, or its detail was pruned.
        BudgetError: it has too many edges to be looked at.
    """
    return _write(driver, database, "expanding a step", lambda tx: _expand(tx, run, step))


def collapse(driver: Driver, run: str, step: int, database: str | None = "neo4j") -> int:
    """Undo `expand`; returns how many relationships were deleted.

    Raises:
        StoreError: there is no such step.
    """

    def undo(tx: ManagedTransaction) -> int:
        _look(tx, run, step)
        return delete_weighed(tx, [step_key(run, step)])

    return _write(driver, database, "undoing an expansion", undo)


def delete_weighed(tx: ManagedTransaction, keys: list[str]) -> int:
    """Delete what `expand` made of these steps; returns how many relationships."""
    return tx.run(_COLLAPSE, keys=keys).consume().counters.relationships_deleted


def _write(driver: Driver, database: str | None, doing: str, work: Callable[[ManagedTransaction], int]) -> int:
    with translated(doing), driver.session(database=database, notifications_min_severity="OFF") as session:
        return session.execute_write(work)


def _look(tx: ManagedTransaction, run: str, step: int) -> dict[str, Any]:
    found = tx.run(_LOCK, key=step_key(run, step), token=secrets.token_hex(8)).single()
    if found is None:
        near = [str(record["step"]) for record in tx.run(_TRACED, run=run, step=step)]
        there = (
            f"The nearest that it has: {', '.join(near)}." if near else "It has none; `gradtrace runs` lists the runs."
        )
        raise StoreError(f"The store holds no step {step} of run {run!r}. {there}")
    return dict(found)


def _expand(tx: ManagedTransaction, run: str, step: int) -> int:
    held = _look(tx, run, step)
    if held["pruned"]:
        raise StoreError(f"The detail of step {step} of run {run!r} was pruned; there is nothing left to expand.")
    if held["expanded"]:
        return 0
    if held["edges"] > MOST_EDGES:
        raise BudgetError(
            f"Step {step} of run {run!r} has {held['edges']:,} edges in all of its traces, more than the {MOST_EDGES:,} that "
            "are spelt out. Ask for them with `gradtrace query graph-at-step`, or store the run folded (--fold auto)."
        )
    key = step_key(run, step)
    created = tx.run(_EXPAND, key=key).consume().counters.relationships_created
    tx.run(_MARK, key=key).consume()
    return created
