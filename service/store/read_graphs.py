"""Operator graphs read back from the store, each checked against its fingerprint."""

from __future__ import annotations

from neo4j import ManagedTransaction

from gradtrace.tracer.errors import StoreIntegrityError, UnknownGraphError
from gradtrace.tracer.graph import Component, Edge, Graph, Vertex

_KEPT = 64
_GRAPH = "MATCH (g:Graph {fingerprint: $key}) RETURN g.name AS name, g.folded AS folded, g.architecture AS architecture"
_VERTICES = """
MATCH (:Graph {fingerprint: $key})-[:HAS]->(v:Vertex)
RETURN v.idx, v.kind, v.op, v.name, v.component, v.shape, v.time ORDER BY v.idx
"""
_EDGES = """
MATCH (:Graph {fingerprint: $key})-[:HAS]->(a:Vertex)-[e:EDGE]->(b:Vertex)
RETURN e.idx, a.idx, b.idx, e.slot ORDER BY e.idx
"""
_COMPONENTS = """
MATCH (:Architecture {hash: $key})-[:OFFERS]->(c:Component)
OPTIONAL MATCH (c)-[:PART_OF]->(p:Component)
RETURN c.path, c.name, c.role, c.depth, p.path ORDER BY c.depth, c.path
"""


class StoredGraphs:
    """Graphs of a store by fingerprint; the latest are kept, so that the steps of a run share theirs."""

    def __init__(self) -> None:
        self._known: dict[str, Graph] = {}

    def get(self, tx: ManagedTransaction, fingerprint: str) -> Graph:
        """The graph of this fingerprint.

        Raises:
            UnknownGraphError: the store does not hold it.
            StoreIntegrityError: what the store holds of it is not what was written.
        """
        if fingerprint not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[fingerprint] = _read(tx, fingerprint)
        return self._known[fingerprint]


def _read(tx: ManagedTransaction, fingerprint: str) -> Graph:
    found = tx.run(_GRAPH, key=fingerprint).single()
    if found is None:
        raise UnknownGraphError(
            f"The store holds no graph {fingerprint}, which a step refers to. Was it pruned meanwhile?"
        )
    graph = Graph(
        name=found["name"],
        vertices=tuple(
            Vertex(idx, kind, op, name, component, tuple(shape), time)
            for idx, kind, op, name, component, shape, time in tx.run(_VERTICES, key=fingerprint)
        ),
        edges=tuple(Edge(*row) for row in tx.run(_EDGES, key=fingerprint)),
        components=tuple(Component(*row) for row in tx.run(_COMPONENTS, key=found["architecture"])),
        folded=found["folded"],
    )
    if graph.fingerprint != fingerprint:
        raise StoreIntegrityError(
            f"The graph {fingerprint} in the store has {len(graph.vertices)} vertices, {len(graph.edges)} edges and "
            f"{len(graph.components)} components, whose fingerprint is {graph.fingerprint}: it was changed since it was "
            "written. Restore the store from a backup, or trace the run again."
        )
    return graph
