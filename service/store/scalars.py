"""Scalar graphs in the store: `(:Step)-[:HAS_SCALARS]->(:ScalarGraph)-[:HAS_SCALAR]->(:Scalar)`, each scalar `OF` its vertex.

A scalar graph can be too large for one transaction. It is therefore written first as a *draft*, in transactions of bounded size:
a `:ScalarGraph` under a key of its own that hangs on no step. The transaction that creates the step counts the draft and links it
to the step, by one relationship; so a step that is seen has its whole scalar graph, once. A draft that is not linked (another
writer was first, this one was killed) is nobody's: its writer drops it, or the next `prune`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from neo4j import ManagedTransaction, Session

from gradtrace.service.store.driver_errors import within_memory
from gradtrace.service.store.keys import step_key, vertex_key
from gradtrace.service.store.structure import MissingStructureError
from gradtrace.tracer.scalargraph import GRAPH_BUDGET, ScalarTrace
from gradtrace.tracer.steptrace import StepTrace

MOST = GRAPH_BUDGET
"""Vertices and edges that one scalar graph in the store may have."""
ROWS = 5_000
"""Nodes or relationships of one transaction, about."""

_THERE = "UNWIND $keys AS key MATCH (s:Step {key: key}) RETURN s.key"
_BEGIN = "CREATE (:ScalarGraph {key: $graph, batch: $batch, vertices: $vertices, edges: $edges, draft: datetime()})"
_CREATE = """
MATCH (g:ScalarGraph {key: $graph})
UNWIND $rows AS r
CREATE (g)-[:HAS_SCALAR]->(:Scalar {key: $graph + ':' + r[0], idx: r[0], output: r[1], index: r[2], component: r[3],
                                    gradient: r[4]})
"""
_PLACE = """
UNWIND $rows AS r
MATCH (v:Vertex {key: r[0]})
UNWIND range(r[1], r[2] - 1) AS i
MATCH (x:Scalar {key: $graph + ':' + i})
CREATE (x)-[:OF]->(v)
"""
_ENDS = """
UNWIND $rows AS r
MATCH (a:Scalar {key: $graph + ':' + r[0]}) MATCH (b:Scalar {key: $graph + ':' + r[1]})
"""
_WEIGH = f"{_ENDS}CREATE (a)-[:WEIGHS {{idx: r[2], edge: r[3], slot: r[4], weight: r[5], flow: r[6]}}]->(b)"
_NEXT = f"{_ENDS}CREATE (a)-[:NEXT {{mode: $mode, idx: r[2], slot: r[3], weight: r[4]}}]->(b)"
_COUNT = """
MATCH (g:ScalarGraph {key: $graph})
CALL (g) {
    MATCH (g)-[:HAS_SCALAR]->(x:Scalar)
    RETURN count(x) AS scalars, sum(COUNT { (x)-[:OF]->() }) AS placed, sum(COUNT { (x)-[:WEIGHS]->() }) AS edges,
           sum(COUNT { (x)-[:NEXT]->() }) AS pointers
}
RETURN [scalars, placed, edges, pointers] AS held
"""
_LINK = """
MATCH (g:ScalarGraph {key: $graph}) MATCH (s:Step {key: $step})
REMOVE g.draft
CREATE (s)-[:HAS_SCALARS]->(g)
"""
_UNLINKED = """
UNWIND $graphs AS key
MATCH (g:ScalarGraph {key: key}) WHERE NOT EXISTS { (:Step)-[:HAS_SCALARS]->(g) }
RETURN key
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A scalar graph that is written, but of no step yet.

    Attributes:
        step: key of the step that it is meant for.
        graph: its own key.
        counts: how many scalars, of these with a vertex, edges and pointers it must have.
    """

    step: str
    graph: str
    counts: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        """Nodes and relationships, the link included."""
        scalars, placed, edges, pointers = self.counts
        return 2 + 2 * scalars + placed + edges + pointers


def malformed(trace: ScalarTrace, step: StepTrace) -> str | None:
    """Why a scalar graph cannot be stored, whatever the store says, or None."""
    held, name = trace.scalars, f"the scalar graph of its {trace.batch} batch"
    if held.size > MOST:
        return (
            f"{name} has {len(held.vertex):,} vertices and {len(held.weight):,} edges, together more than the {MOST:,} that "
            "the store takes of one; trace a smaller model or batch, or send it to a JsonlSink"
        )
    if not any(t.batch == trace.batch and t.graph.fingerprint == trace.graph.fingerprint for t in step.traces):
        return f"{name} is of an operator graph that no trace of this batch has"
    vertices, edges = len(held.vertex), len(held.weight)
    for names, count in (
        (("vertex", "output", "index", "component", "gradient"), vertices),
        (("source", "target", "slot", "edge", "weight"), edges),
    ):
        for column in names:
            if len(getattr(held, column)) != count:
                return f"{name} has {len(getattr(held, column))} entries in {column}, and {count} in other columns"
    for column, values, most in (
        ("vertex", held.vertex, len(trace.graph.vertices)),
        ("source", held.source, vertices),
        ("target", held.target, vertices),
        *((f"next[{mode!r}]", chosen[chosen >= 0], edges) for mode, chosen in held.next.items()),
    ):
        if len(values) and not (int(values.min()) >= 0 and int(values.max()) < most):
            return f"{name} refers by {column} to what it does not have"
    return None


def write_drafts(session: Session, steps: Sequence[StepTrace], made: list[Draft]) -> None:
    """Write the scalar graphs of the steps that are not stored yet.

    Args:
        session: whose transactions do it.
        steps: whose graphs are stored.
        made: gets each draft before it is begun, so that it can be dropped whatever happens.

    Raises:
        MissingStructureError: the store does not hold a vertex that a scalar is of.
    """
    wanted = {
        step_key(step.run, step.step): step for step in reversed(steps) if step.scalars
    }  # of equal ones the first
    if not wanted:
        return
    there = session.execute_read(lambda tx: {r[0] for r in tx.run(_THERE, keys=list(wanted))})
    for key, step in wanted.items():
        for trace in step.scalars if key not in there else ():
            held = trace.scalars
            pointers = sum(int((chosen >= 0).sum()) for chosen in held.next.values())
            counts = (len(held.vertex), len(held.vertex), len(held.weight), pointers)
            draft = Draft(key, f"{key}:{trace.batch}:{secrets.token_hex(4)}", counts)
            made.append(draft)
            for what, expected, statement, parameters in _statements(trace):
                session.execute_write(_run, what, expected, statement, graph=draft.graph, **parameters)


def link_drafts(tx: ManagedTransaction, drafts: Sequence[Draft], steps: Sequence[StepTrace]) -> int:
    """Give the steps that this transaction created their scalar graphs; returns the number of nodes and relationships.

    Raises:
        MissingStructureError: a draft is not there, or not as it was written; nothing is kept.
    """
    created = 0
    for step in steps:
        key = step_key(step.run, step.step)
        mine = [draft for draft in drafts if draft.step == key]
        if len(mine) != len(step.scalars):
            raise MissingStructureError(f"Step {key} was taken away while it was written again; it was not written.")
        for draft in mine:
            record = tx.run(_COUNT, graph=draft.graph).single()
            held = tuple(record["held"]) if record else None
            if held != draft.counts:
                raise MissingStructureError(
                    f"A scalar graph of step {key} has {held} scalars, places, edges and pointers instead of {draft.counts}; the "
                    "step was not written. Was the store pruned while runs wrote to it?"
                )
            _run(tx, "the scalars of a step", 1, _LINK, graph=draft.graph, step=key)
            created += draft.size
    return created


def unlinked(session: Session, drafts: Sequence[Draft]) -> list[str]:
    """Keys of those drafts that are there and of no step."""
    graphs = [draft.graph for draft in drafts]
    return session.execute_read(lambda tx: [r[0] for r in tx.run(_UNLINKED, graphs=graphs)])


def _statements(trace: ScalarTrace) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    """What a scalar graph is written by, each in a transaction of its own: (what, expected, statement, parameters)."""
    held = trace.scalars
    sizes = {"batch": trace.batch, "vertices": len(held.vertex), "edges": len(held.weight)}
    yield "a scalar graph", 1, _BEGIN, sizes
    for rows in _parts(_vertices(trace)):
        yield "scalars", 2 * len(rows), _CREATE, {"rows": rows}
    for rows in _parts(_places(trace)):
        yield "places of scalars", sum(stop - first for _, first, stop in rows), _PLACE, {"rows": rows}
    for rows in _parts(_edges(trace)):
        yield "scalar edges", len(rows), _WEIGH, {"rows": rows}
    for mode, chosen in held.next.items():
        for rows in _parts(_pointers(trace, chosen)):
            yield "pointers of scalars", len(rows), _NEXT, {"rows": rows, "mode": mode}


def _vertices(trace: ScalarTrace) -> list[list[Any]]:
    held = trace.scalars
    columns = (held.output.tolist(), held.index.tolist(), held.component, held.gradient.tolist())
    return [[at, *values] for at, values in enumerate(zip(*columns, strict=True))]


def _places(trace: ScalarTrace) -> list[list[Any]]:
    """Stretches of scalars of one vertex: its key, the first of them, and where they end; in one order for all writers."""
    vertex = trace.scalars.vertex
    most = max(ROWS // 50, 1)
    cuts = [0, *(np.flatnonzero(np.diff(vertex)) + 1).tolist(), len(vertex)]
    rows = []
    for first, last in pairwise(cuts):
        key = vertex_key(trace.graph.fingerprint, int(vertex[first])) if last > first else ""
        rows += [[key, at, min(at + most, last)] for at in range(first, last, most)]
    rows.sort(key=lambda row: (row[0], row[1]))
    return rows


def _edges(trace: ScalarTrace) -> list[list[Any]]:
    held = trace.scalars
    numbers = np.arange(len(held.weight))
    columns = (held.source, held.target, numbers, held.edge, held.slot, held.weight, held.flow)
    return [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _pointers(trace: ScalarTrace, chosen: np.ndarray) -> list[list[Any]]:
    held = trace.scalars
    taken = chosen[chosen >= 0]
    columns = (held.source[taken], held.target[taken], taken, held.slot[taken], held.weight[taken])
    return [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _parts(rows: list[list[Any]]) -> Iterator[list[list[Any]]]:
    """The rows in pieces of at most `ROWS`."""
    return (rows[at : at + ROWS] for at in range(0, len(rows), ROWS))


def _run(tx: ManagedTransaction, /, what: str, expected: int, statement: str, **parameters: Any) -> None:
    with within_memory():
        counters = tx.run(statement, **parameters).consume().counters
    made = counters.nodes_created + counters.relationships_created
    if made != expected:
        raise MissingStructureError(
            f"Writing {what} created {made} nodes and relationships instead of {expected}; it was rolled back. Were vertices "
            "pruned while runs wrote to the store?"
        )
