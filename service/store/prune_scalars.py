"""Drop the scalar graphs of pruned steps, and drafts that no step took, in transactions of bounded size."""

from __future__ import annotations

from collections.abc import Sequence

from neo4j import ManagedTransaction, Session

_SCALARS = 2000
"""Scalars of one transaction, each with its edges."""
# Of each scalar what it hangs on, and what leads on from it; of its graph, the step.
_WEIGH = """
UNWIND $graphs AS key
MATCH (g:ScalarGraph {key: key})
CALL (g) {
    MATCH (g)-[:HAS_SCALAR]->(x:Scalar)
    RETURN count(x) AS scalars, sum(1 + COUNT { (x)-->() }) AS relationships
}
RETURN sum(scalars) AS scalars, sum(relationships + COUNT { (g)<-[:HAS_SCALARS]-() }) AS relationships
"""
_DROP = """
MATCH (:ScalarGraph {key: $graph})-[:HAS_SCALAR]->(x:Scalar)
WITH x LIMIT $most
DETACH DELETE x
"""
_END = "MATCH (g:ScalarGraph {key: $graph}) DETACH DELETE g"
_OF_STEPS = "UNWIND $keys AS key MATCH (s:Step {key: key})-[:HAS_SCALARS]->(g:ScalarGraph) RETURN g.key ORDER BY g.key"
_DRAFTS = """
MATCH (g:ScalarGraph)
WHERE g.draft < datetime() - duration({minutes: $minutes}) AND NOT EXISTS { (:Step)-[:HAS_SCALARS]->(g) }
RETURN g.key ORDER BY g.key
"""


def graphs_of(session: Session, keys: Sequence[str]) -> list[str]:
    """Keys of the scalar graphs of these steps."""
    return session.execute_read(_column, _OF_STEPS, keys=list(keys))


def old_drafts(session: Session, minutes: int) -> list[str]:
    """Keys of drafts that were begun so long ago that no writer is at them any more."""
    return session.execute_read(_column, _DRAFTS, minutes=minutes)


def drop_graphs(session: Session, graphs: Sequence[str], dry_run: bool = False) -> tuple[int, int]:
    """Drop scalar graphs, or only count what would go.

    Returns:
        How many scalars and relationships.
    """
    if dry_run:
        return session.execute_read(_weigh, list(graphs))
    scalars = relationships = 0
    for graph in graphs:
        while True:
            nodes, hung = session.execute_write(_dropped, _DROP, graph)
            scalars += nodes
            relationships += hung
            if not nodes:
                break
        relationships += session.execute_write(_dropped, _END, graph)[1]
    return scalars, relationships


def _weigh(tx: ManagedTransaction, graphs: list[str]) -> tuple[int, int]:
    record = tx.run(_WEIGH, graphs=graphs).single(strict=True)
    return record["scalars"], record["relationships"]


def _dropped(tx: ManagedTransaction, statement: str, graph: str) -> tuple[int, int]:
    parameters = {"graph": graph, "most": _SCALARS} if "$most" in statement else {"graph": graph}
    counters = tx.run(statement, **parameters).consume().counters
    return counters.nodes_deleted, counters.relationships_deleted


def _column(tx: ManagedTransaction, /, statement: str, **parameters: object) -> list[str]:
    return [record[0] for record in tx.run(statement, parameters)]
