"""Scalar graphs read back from the store."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from neo4j import ManagedTransaction

from gradtrace.service.store.keys import step_key
from gradtrace.service.store.read_graphs import StoredGraphs
from gradtrace.tracer.errors import StoreIntegrityError
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.scalargraph import POINTERS, ScalarGraph, ScalarTrace

_GRAPHS = """
MATCH (:Step {key: $step})-[:HAS_SCALARS]->(g:ScalarGraph)
RETURN g.key AS key, g.batch AS batch, g.vertices AS vertices, g.edges AS edges,
       COLLECT { MATCH (g)-[:HAS_SCALAR]->(:Scalar)-[:OF]->(:Vertex)<-[:HAS]-(o:Graph) RETURN o.fingerprint LIMIT 1 } AS of
"""
_SCALARS = """
MATCH (:ScalarGraph {key: $key})-[:HAS_SCALAR]->(x:Scalar)-[:OF]->(v:Vertex)
RETURN x.idx, v.idx, x.output, x.index, x.gradient, x.component
"""
_WEIGHS = """
MATCH (:ScalarGraph {key: $key})-[:HAS_SCALAR]->(a:Scalar)-[w:WEIGHS]->(b:Scalar)
RETURN w.idx, a.idx, b.idx, w.slot, w.edge, w.weight
"""
_NEXT = """
MATCH (:ScalarGraph {key: $key})-[:HAS_SCALAR]->(a:Scalar)-[n:NEXT]->(:Scalar) RETURN n.mode, a.idx, n.idx
"""


def scalars_of(tx: ManagedTransaction, run: str, step: int, graphs: StoredGraphs) -> Iterator[ScalarTrace]:
    """The scalar graphs of one step, training before probe. One is held whole: the store bounds their size.

    Raises:
        StoreIntegrityError: one has not as many scalars or edges as it says.
    """
    found = sorted(tx.run(_GRAPHS, step=step_key(run, step)), key=lambda r: r["batch"] != "training")
    for record in found:
        if not record["of"]:
            raise StoreIntegrityError(
                f"The scalar graph {record['key']} has no scalars. Was the store changed by hand?"
            )
        graph = graphs.get(tx, record["of"][0])
        yield ScalarTrace(
            record["batch"], graph, _scalars(tx, record["key"], graph, record["vertices"], record["edges"])
        )


def _scalars(tx: ManagedTransaction, key: str, graph: Graph, vertices: int, edges: int) -> ScalarGraph:
    whole = np.full((vertices, 3), -1, np.int64)
    gradient = np.zeros(vertices)
    component: list[str | None] = [None] * vertices
    count = 0
    for idx, *place, slope, name in tx.run(_SCALARS, key=key):
        whole[idx], gradient[idx], component[idx] = place, slope, name
        count += 1
    ends = np.full((edges, 4), -1, np.int64)
    weight = np.zeros(edges)
    joined = 0
    for idx, *place, value in tx.run(_WEIGHS, key=key):
        ends[idx], weight[idx] = place, value
        joined += 1
    if (count, joined) != (vertices, edges):
        raise StoreIntegrityError(
            f"The scalar graph {key} has {count} scalars and {joined} edges, and says that it has {vertices} and {edges}. "
            "Was the store changed by hand?"
        )
    chosen: dict[str, np.ndarray] = {}
    for mode, source, edge in tx.run(_NEXT, key=key):
        chosen.setdefault(mode, np.full(vertices, -1, np.int64))[source] = edge
    vertex, output, index = whole.T.copy()
    start, end, slots, edge_of = ends.T.copy()
    return ScalarGraph(
        vertex=vertex,
        output=output,
        index=index,
        component=tuple(component),
        gradient=gradient,
        source=start,
        target=end,
        slot=slots,
        edge=edge_of,
        weight=weight,
        next={mode: chosen[mode] for mode in POINTERS if mode in chosen},
        loss=_loss(graph, vertex, ends),
    )


def _loss(graph: Graph, vertex: np.ndarray, ends: np.ndarray) -> int:
    """The scalar of the loss' operator that something leads to and that leads nowhere."""
    place = np.flatnonzero(vertex == graph.loss.idx)
    last = [at for at in place.tolist() if at not in ends[:, 0] and at in ends[:, 1]]
    return int(last[0] if last else place[-1] if len(place) else len(vertex) - 1)
