"""What steps and runs share: architectures, graphs, routes and paths, each written once by whoever needs it first.

Every function runs inside a managed transaction, may be repeated, and sorts keys before it locks, so that writers wait
for each other instead of locking each other out. Who creates a node adds what belongs to it in the same transaction, so
that a node that is seen is whole. Of writers that create one path or route at once, all but the first to commit are
refused by its constraint (`ConstraintError`) and try again; graphs, which take longer, are claimed by a MERGE.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from neo4j import ManagedTransaction

from gradtrace.service.store.keys import OTHER_ROUTE, component_key, crossed, path_hash, route_hash, vertex_key
from gradtrace.service.store.plans import collected, run_planned
from gradtrace.service.store.routes import route_of
from gradtrace.service.store.rows import Keys
from gradtrace.tracer.errors import StoreIntegrityError
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.steptrace import StepTrace, route_text

_CACHED = 500_000
"""Keys that a writer remembers as stored (32 digits each); beyond, it forgets all and asks the store again."""

_MERGE_ARCHITECTURE = """
MERGE (a:Architecture {hash: $hash}) ON CREATE SET a.name = $name, a.token = $token
WITH a, coalesce(a.token, '') = $token AS mine
REMOVE a.token
RETURN mine
"""
_CREATE_COMPONENTS = """
MATCH (a:Architecture {hash: $hash})
UNWIND $rows AS r
CREATE (a)-[:OFFERS]->(:Component {key: r[0], path: r[1], name: r[2], role: r[3], depth: r[4]})
"""
_NEST_COMPONENTS = """
UNWIND $rows AS r
MATCH (c:Component {key: r[0]}) MATCH (p:Component {key: r[1]})
CREATE (c)-[:PART_OF]->(p)
"""
_MERGE_GRAPH = """
MERGE (g:Graph {fingerprint: $fingerprint})
ON CREATE SET g.name = $name, g.folded = $folded, g.architecture = $architecture, g.vertices = $vertices,
              g.edges = $edges, g.token = $token
WITH g, coalesce(g.token, '') = $token AS mine
REMOVE g.token
RETURN mine
"""
_CREATE_VERTICES = """
MATCH (g:Graph {fingerprint: $fingerprint})
UNWIND $rows AS r
CREATE (g)-[:HAS]->(:Vertex%s {key: r[0], idx: r[1], kind: r[2], op: r[3], name: r[4], component: r[5], shape: r[6],
                              time: r[7]})
"""
_PLACE_VERTICES = """
UNWIND $rows AS r
MATCH (c:Component {key: r[0]})
UNWIND r[1] AS key
MATCH (v:Vertex {key: key})
CREATE (v)-[:BELONGS_TO]->(c)
"""
_CREATE_EDGES = """
MATCH (g:Graph {fingerprint: $fingerprint})-[:HAS]->(v:Vertex)
WITH v ORDER BY v.idx WITH collect(v) AS vs
UNWIND $rows AS r
WITH vs[r[1]] AS a, vs[r[2]] AS b, r
CREATE (a)-[:EDGE {idx: r[0], slot: r[3]}]->(b)
"""
_ROUTES_THERE = """
UNWIND range(0, size($rows) - 1) AS i
WITH i, $rows[i] AS r
MATCH (n:Route {hash: r[0]})
SET n.lock = $token
REMOVE n.lock
WITH i, r, n
RETURN [i, r[1] IS NULL OR EXISTS { (n)-[:CROSSES]->(:Component {key: r[1]}) }] AS found
"""
_CROSSED = collected("Component", "key", "components", "cs") + "UNWIND $rows AS r\n"
_CROSS = """
UNWIND r[1] AS place
WITH n, cs[place] AS c
CREATE (n)-[:CROSSES]->(c)
"""
_CREATE_ROUTES = f"{_CROSSED}CREATE (n:Route {{hash: r[0], components: r[2], text: r[3]}}) WITH n, cs, r{_CROSS}"
_CROSS_ROUTES = f"{_CROSSED}MATCH (n:Route {{hash: r[0]}}){_CROSS}"
_PATHS_THERE = "UNWIND $keys AS key MATCH (p:Path {hash: key}) RETURN p.hash"
_CREATE_PATHS = """
MATCH (g:Graph {fingerprint: $fingerprint})-[:HAS]->(v:Vertex)
WITH g, v ORDER BY v.idx WITH g, collect(v) AS vs
UNWIND $rows AS r
MATCH (n:Route {hash: r[2]})
CREATE (p:Path {hash: r[0], vertices: r[1]})-[:ON]->(g) CREATE (p)-[:TAKES]->(n)
WITH p, vs, r
UNWIND r[1] AS idx
WITH p, vs[idx] AS v
CREATE (p)-[:VISITS]->(v)
"""


class MissingStructureError(StoreIntegrityError):
    """Shared nodes that a writer took for stored are gone; it may write them again and repeat."""


@dataclass
class Structure:
    """Shared nodes that a batch of steps needs.

    Attributes:
        graphs: by fingerprint; their architectures go with them.
        routes: tokens by hash and architecture (the graph tells its components); None is the route "other".
        paths: graph fingerprint, vertices and route hash by path hash.
    """

    graphs: dict[str, Graph] = field(default_factory=dict)
    routes: dict[tuple[str, str], tuple[str, ...] | None] = field(default_factory=dict)
    paths: dict[str, tuple[str, tuple[int, ...], str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.graphs or self.routes or self.paths)


class Known:
    """What a writer knows to be in the store, because a transaction of its own said so."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: ask the store again."""
        self._graphs: set[str] = set()
        self._routes: set[tuple[str, str]] = set()
        self._paths: set[str] = set()

    def missing(self, steps: Iterable[StepTrace]) -> Structure:
        """What `steps` need beyond what is known."""
        need = Structure()
        for trace in (t for step in steps for t in step.traces):
            graph = trace.graph
            architecture, fingerprint = graph.architecture_hash, graph.fingerprint
            if fingerprint not in self._graphs:
                need.graphs[fingerprint] = graph
            for row in trace.routes:
                self._need_route(need, architecture, row.route)
            for p in trace.parameters:
                if p.strongest is None:
                    continue
                key = path_hash(fingerprint, p.strongest.vertices)
                if key not in self._paths and key not in need.paths:
                    route = route_of(graph, p.strongest.vertices)
                    self._need_route(need, architecture, route)
                    need.paths[key] = (fingerprint, p.strongest.vertices, route_hash(route))
        return need

    def add(self, stored: Structure) -> None:
        """Remember what was committed."""
        if len(self._paths) + len(self._routes) > _CACHED:
            self.clear()
        self._graphs |= stored.graphs.keys()
        self._routes |= stored.routes.keys()
        self._paths |= stored.paths.keys()

    def _need_route(self, need: Structure, architecture: str, route: tuple[str, ...] | None) -> None:
        key = (route_hash(route), architecture)
        if key not in self._routes:
            need.routes[key] = route


def write_structure(tx: ManagedTransaction, need: Structure) -> int:
    """Write what is not there yet; return the number of nodes and relationships that were created.

    Raises:
        StoreIntegrityError: the store did not create what it should have; nothing is kept.
    """
    token = secrets.token_hex(8)
    writer = _Writer(tx)
    for graph in sorted(need.graphs.values(), key=lambda g: (g.architecture_hash, g.fingerprint)):
        _architecture(writer, graph, token)
    for graph in sorted(need.graphs.values(), key=lambda g: g.fingerprint):
        _graph(writer, graph, token)
    if need.routes:
        _routes(writer, need, token)
    if need.paths:
        _paths(writer, need)
    return writer.created


class _Writer:
    """Runs statements of one transaction and counts what they create."""

    def __init__(self, tx: ManagedTransaction) -> None:
        self._tx = tx
        self.created = 0

    def claim(self, statement: str, **parameters: Any) -> bool:
        """Whether a MERGE of one node created it."""
        result = run_planned(self._tx, statement, **parameters)
        mine = result.single(strict=True)[0]
        self.created += result.consume().counters.nodes_created
        return bool(mine)

    def create(self, what: str, expected: int | None, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement; compare the number of nodes and relationships that it created with `expected`."""
        result = run_planned(self._tx, statement, **parameters)
        values = [record[0] for record in result]
        counters = result.consume().counters
        made = counters.nodes_created + counters.relationships_created
        self.created += made
        if expected is not None and made != expected:
            raise MissingStructureError(
                f"Writing {what} created {made} nodes and relationships instead of {expected}; it was rolled back. "
                "Something that these belong to is missing: was the store pruned while runs wrote to it, or does a "
                "route name a component that its graph does not list?"
            )
        return values


def _architecture(writer: _Writer, graph: Graph, token: str) -> None:
    key = graph.architecture_hash
    if not writer.claim(_MERGE_ARCHITECTURE, hash=key, name=graph.name, token=token):
        return
    rows = [[component_key(key, c.path), c.path, c.name, c.role, c.depth] for c in graph.components]
    writer.create("components", 2 * len(rows), _CREATE_COMPONENTS, hash=key, rows=rows)
    parts = [(component_key(key, c.path), component_key(key, c.parent)) for c in graph.components if c.parent]
    writer.create("the component tree", len(parts), _NEST_COMPONENTS, rows=[list(p) for p in parts])


def _graph(writer: _Writer, graph: Graph, token: str) -> None:
    key = graph.fingerprint
    sizes = {"vertices": len(graph.vertices), "edges": len(graph.edges)}
    named = {"name": graph.name, "folded": graph.folded, "architecture": graph.architecture_hash}
    if not writer.claim(_MERGE_GRAPH, fingerprint=key, token=token, **named, **sizes):
        return
    places: dict[str, list[str]] = {}
    rows: dict[str, list[list[Any]]] = {"": [], ":Parameter": []}
    for v in graph.vertices:
        label = ":Parameter" if v.kind == "parameter" else ""
        rows[label].append([vertex_key(key, v.idx), v.idx, v.kind, v.op, v.name, v.component, list(v.shape), v.time])
        if v.component is not None:
            places.setdefault(component_key(graph.architecture_hash, v.component), []).append(vertex_key(key, v.idx))
    for label, part in rows.items():
        writer.create("vertices", 2 * len(part), _CREATE_VERTICES % label, fingerprint=key, rows=part)
    placed = [[component, places[component]] for component in sorted(places)]
    writer.create("places of vertices", sum(map(len, places.values())), _PLACE_VERTICES, rows=placed)
    edges = [[e.idx, e.source, e.target, e.slot] for e in graph.edges]
    writer.create("edges", len(edges), _CREATE_EDGES, fingerprint=key, rows=edges)


def _routes(writer: _Writer, need: Structure, token: str) -> None:
    """Routes are shared by architectures: the crossings of one are there if the first of its components is crossed."""
    wanted = sorted(need.routes)
    targets = [sorted(component_key(a, c) for c in crossed(need.routes[key, a] or ())) for key, a in wanted]
    rows = [[key, found[0] if found else None] for (key, _), found in zip(wanted, targets, strict=True)]
    there = dict(writer.create("a look for routes", 0, _ROUTES_THERE, rows=rows, token=token))
    components = Keys()
    new: dict[str, list[Any]] = {}
    cross: list[list[Any]] = []
    for i, ((key, architecture), found) in enumerate(zip(wanted, targets, strict=True)):
        places = [components(c) for c in found]
        if i in there:
            if not there[i]:
                cross.append([key, places])
        elif key in new:  # of two architectures
            new[key][1] += places
        else:
            route = need.routes[key, architecture]
            new[key] = [key, places, list(route or ()), OTHER_ROUTE if route is None else route_text(route)]
    for what, statement, part, created in (
        ("routes", _CREATE_ROUTES, list(new.values()), len(new)),
        ("the components of routes", _CROSS_ROUTES, cross, 0),
    ):
        if part:
            expected = created + sum(len(places) for _, places, *_ in part)
            writer.create(what, expected, statement, rows=part, components=components.all)


def _paths(writer: _Writer, need: Structure) -> None:
    """Paths that are there are whole; of writers that create one at once, all but the first are refused and try again."""
    there = set(writer.create("a look for paths", 0, _PATHS_THERE, keys=sorted(need.paths)))
    by_graph: dict[str, list[list[Any]]] = {}
    for key in sorted(need.paths.keys() - there):
        fingerprint, vertices, route = need.paths[key]
        by_graph.setdefault(fingerprint, []).append([key, list(vertices), route])
    for fingerprint, rows in sorted(by_graph.items()):
        expected = sum(3 + len(vertices) for _, vertices, _ in rows)
        writer.create("paths", expected, _CREATE_PATHS, fingerprint=fingerprint, rows=rows)
