"""Read runs back from the store through plain Cypher: what the store holds, as StepTraces."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from neo4j import Driver

from gradtrace.service.local import ServerInfo
from gradtrace.tracer.graph import Component, Edge, Graph, Vertex
from gradtrace.tracer.scalargraph import ScalarGraph, ScalarTrace
from gradtrace.tracer.spreadtrace import ComponentSpread, ParameterSpread, SpreadTrace
from gradtrace.tracer.steptrace import (
    BatchTrace,
    ComponentShare,
    DominantPath,
    ParameterTrace,
    RouteShare,
    StepTrace,
)
from tests.same import same

LABELS = {
    *("Architecture", "Component", "Graph", "Vertex", "Parameter", "Path", "Route", "Experiment", "Run", "Step"),
    *("Trace", "Epoch", "ScalarGraph", "Scalar", "Migration"),
}
TYPES = {
    *("OFFERS", "PART_OF", "HAS", "BELONGS_TO", "EDGE", "VISITS", "ON", "TAKES", "CROSSES", "IN", "HAS_STEP"),
    *("HAS_TRACE", "DOMINANT", "TOP", "LEFT", "CARRIES", "FOLLOWS", "TOOK", "EPOCH_SHARE", "HAS_EPOCH"),
    *("SPREAD", "SPREAD_IN", "HAS_SCALARS", "HAS_SCALAR", "OF", "WEIGHS", "NEXT"),
}


def ask(driver: Driver, query: str, **parameters: Any) -> list[Any]:
    """Rows of a query; the bare values where it has one column."""
    with driver.session(database="neo4j", notifications_min_severity="OFF") as session:
        rows = [record.values() for record in session.run(query, **parameters)]
    return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows


def address(server: ServerInfo) -> tuple[str, str, str]:
    """What a sink's constructor wants."""
    return server.uri, server.user, server.password


def graph_of(driver: Driver, fingerprint: str) -> Graph:
    """A graph with its component tree."""
    (row,) = ask(driver, "MATCH (g:Graph {fingerprint: $f}) RETURN properties(g), 0", f=fingerprint)
    properties = row[0]
    vertices = ask(
        driver,
        "MATCH (:Graph {fingerprint: $f})-[:HAS]->(v:Vertex) OPTIONAL MATCH (v)-[:BELONGS_TO]->(c:Component) "
        "RETURN v.idx, v.kind, v.op, v.name, c.path, v.shape, v.time, v:Parameter, v.component, v.key ORDER BY v.idx",
        f=fingerprint,
    )
    for v in vertices:
        assert v[7] == (v[1] == "parameter") and v[8] == v[4] and v[9] == f"{fingerprint}:{v[0]}"
    edges = ask(
        driver,
        "MATCH (:Graph {fingerprint: $f})-[:HAS]->(a)-[e:EDGE]->(b) RETURN e.idx, a.idx, b.idx, e.slot ORDER BY e.idx",
        f=fingerprint,
    )
    components = ask(
        driver,
        "MATCH (a:Architecture {hash: $a})-[:OFFERS]->(c:Component) OPTIONAL MATCH (c)-[:PART_OF]->(p) "
        "RETURN c.path, c.name, c.role, c.depth, p.path, c.key, a.name ORDER BY c.depth, c.path",
        a=properties["architecture"],
    )
    for c in components:
        assert c[5] == f"{properties['architecture']}:{c[0]}" and c[6] == properties["name"]
    graph = Graph(
        properties["name"],
        tuple(Vertex(*v[:5], tuple(v[5]), v[6]) for v in vertices),
        tuple(Edge(*e) for e in edges),
        tuple(Component(*c[:5]) for c in components),
        properties["folded"],
    )
    assert (properties["vertices"], properties["edges"]) == (len(vertices), len(edges))
    assert properties["fingerprint"] == fingerprint == graph.fingerprint
    assert properties["architecture"] == graph.architecture_hash
    return graph


def steps_of(driver: Driver, run: str) -> list[StepTrace]:
    """All steps of a run, by step; rows within a trace are in `arranged` order."""
    graphs: dict[str, Graph] = {}
    made = []
    for properties, fingerprint in ask(
        driver,
        "MATCH (:Run {id: $run})-[:HAS_STEP]->(s:Step)-[:ON]->(g:Graph) RETURN properties(s), g.fingerprint "
        "ORDER BY s.step",
        run=run,
    ):
        s = properties
        assert s["key"] == f"{run}:{s['step']}" and s["run"] == run
        traces = []
        for t, on in ask(
            driver,
            "MATCH (:Step {key: $key})-[:HAS_TRACE]->(t:Trace)-[:ON]->(g:Graph) RETURN properties(t), g.fingerprint",
            key=s["key"],
        ):
            if on not in graphs:
                graphs[on] = graph_of(driver, on)
            assert t["key"] == f"{s['key']}:{t['mode']}:{t['batch']}"
            assert (t["batch"] == s["batch"]) == ("flow" not in t) == ("peak" not in t)
            assert on == fingerprint or t["batch"] != s["batch"]
            traces.append(_trace(driver, t, s, graphs[on]))
        step = StepTrace(run, s["step"], s["epoch"], s["loss"], tuple(traces), tuple(s["watched"]), tuple(s["notes"]))
        scalars = [
            scalars_of(driver, s["key"], batch, next(t.graph for t in traces if t.batch == batch))
            for batch in ask(driver, "MATCH (:Step {key: $key})-[:HAS_SCALARS]->(g) RETURN g.batch", key=s["key"])
        ]
        step = replace(step, spreads=tuple(_spreads(driver, s["key"], traces)), scalars=tuple(scalars))
        assert step.non_finite == s["non_finite"]
        made.append(arranged(step))
    return made


def _trace(driver: Driver, t: dict[str, Any], s: dict[str, Any], graph: Graph) -> BatchTrace:
    key = t["key"]
    dominant = {
        d["parameter"]: _path(driver, d, p)
        for d, p in ask(
            driver, "MATCH (:Trace {key: $key})-[d:DOMINANT]->(p:Path) RETURN properties(d), properties(p)", key=key
        )
    }
    parameters = [
        ParameterTrace(
            v["name"],
            v["idx"],
            tuple(v["shape"]),
            x["traffic"],
            x["mass"],
            x["dead"],
            x["unread"],
            x["non_finite"],
            dominant.pop(v["name"], None),
        )
        for x, v in ask(
            driver, "MATCH (:Trace {key: $key})-[l:LEFT]->(v:Parameter) RETURN properties(l), properties(v)", key=key
        )
    ]
    assert not dominant
    components = [
        ComponentShare(component=path, **{k: tuple(v) if isinstance(v, list) else v for k, v in c.items()})
        for path, c in ask(
            driver, "MATCH (:Trace {key: $key})-[c:CARRIES]->(n:Component) RETURN n.path, properties(c)", key=key
        )
    ]
    routes = [
        RouteShare(
            x["parameter"],
            None if r["hash"] == "other" else tuple(r["components"]),
            x["traffic"],
            x["mass"],
            0.0,
            x["rank"],
        )
        for x, r in ask(
            driver, "MATCH (:Trace {key: $key})-[x:TOP]->(r:Route) RETURN properties(x), properties(r)", key=key
        )
    ]
    return BatchTrace(
        mode=t["mode"],
        batch=t["batch"],
        graph=graph,
        loss=t["loss"],
        flow=np.array(t.get("flow", s["flow"]), np.float64),
        peak=np.array(t.get("peak", s["peak"]), np.float64),
        traffic=np.array(t["traffic"], np.int64),
        mass=np.array(t["mass"], np.float64),
        dominant=np.array(t["dominant"], bool),
        non_finite=t["non_finite"],
        parameters=tuple(parameters),
        components=tuple(components),
        routes=with_shares(tuple(routes)),
        consistent=t["consistent"],
    )


def scalars_of(driver: Driver, step: str, batch: str, graph: Graph) -> ScalarTrace:
    """The scalar graph of one batch of a step."""
    which = {"key": step, "batch": batch}
    whole = "MATCH (:Step {key: $key})-[:HAS_SCALARS]->(g:ScalarGraph {batch: $batch})"
    ((name, sizes),) = ask(driver, whole + " RETURN g.key, properties(g)", **which)
    assert name.startswith(f"{step}:{batch}:") and sizes.keys() == {"key", "batch", "vertices", "edges"}
    match = whole + "-[:HAS_SCALAR]->(a:Scalar) MATCH "
    vertices = ask(
        driver,
        match + "(a)-[:OF]->(v:Vertex) RETURN a.idx, a.key, v.idx, v.key, a.output, a.index, a.component, a.gradient "
        "ORDER BY a.idx",
        **which,
    )
    for at, v in enumerate(vertices):
        assert v[:2] == [at, f"{name}:{at}"] and v[3] == f"{graph.fingerprint}:{v[2]}"
    edges = ask(
        driver,
        match
        + "(a)-[w:WEIGHS]->(b:Scalar) RETURN w.idx, a.idx, b.idx, w.slot, w.edge, w.weight, w.flow ORDER BY w.idx",
        **which,
    )
    gradient = [v[7] for v in vertices]
    for at, e in enumerate(edges):
        assert e[0] == at and same(e[6], abs(e[5] * gradient[e[2]]))
    chosen: dict[str, np.ndarray] = {}
    for mode, at, a, b, slot, weight in ask(
        driver,
        match + "(a)-[n:NEXT]->(b:Scalar) RETURN n.mode, n.idx, a.idx, b.idx, n.slot, n.weight ORDER BY n.mode, a.idx",
        **which,
    ):
        assert edges[at][1:4] == [a, b, slot] and edges[at][5] == weight
        column = chosen.setdefault(mode, np.full(len(vertices), -1, np.int64))
        assert column[a] == -1  # one way on
        column[a] = at
    assert (sizes["vertices"], sizes["edges"]) == (len(vertices), len(edges))
    ends = {e[2] for e in edges} - {e[1] for e in edges}
    loss = next(at for at, v in enumerate(vertices) if graph.vertices[v[2]].kind == "loss" and at in ends)
    columns = [np.array([row[n] for row in edges], np.int64) for n in (1, 2, 3, 4)]
    held = ScalarGraph(
        *(np.array([v[n] for v in vertices], np.int64) for n in (2, 4, 5)),
        tuple(v[6] for v in vertices),
        np.array(gradient, np.float64),
        *columns,
        np.array([e[5] for e in edges], np.float64),
        chosen,
        loss,
    )
    return ScalarTrace(batch, graph, held)


def _spreads(driver: Driver, key: str, traces: list[BatchTrace]) -> list[SpreadTrace]:
    by = {t.batch: t for t in traces}
    rows = ask(
        driver,
        "MATCH (:Step {key: $key})-[x:SPREAD]->(v:Parameter) RETURN properties(x), properties(v) ORDER BY v.idx",
        key=key,
    )
    parts = ask(
        driver,
        "MATCH (:Step {key: $key})-[x:SPREAD_IN]->(c:Component) RETURN properties(x), c.path ORDER BY c.path",
        key=key,
    )
    made = []
    for mode, batch in sorted({(x["mode"], x["batch"]) for x, _ in rows}, key=lambda k: (k[1], k[0])):
        mine = [(x, v) for x, v in rows if (x["mode"], x["batch"]) == (mode, batch)]
        within = [(x, path) for x, path in parts if (x["mode"], x["batch"]) == (mode, batch)]
        parameters = [
            ParameterSpread(
                v["name"],
                v["idx"],
                tuple(v["shape"]),
                x["live"],
                x["mass"],
                x["abs_sum"],
                x.get("coherence"),
                x.get("entropy"),
            )
            for x, v in mine
        ]
        components = [
            ComponentSpread(
                path, x["share"], x["abs_sum"], x["own"], x["foreign"], x.get("coherence"), x.get("entropy")
            )
            for x, path in within
        ]
        made.append(
            SpreadTrace(mode, batch, by[batch].graph, by[batch].loss, False, tuple(parameters), tuple(components))
        )
    return made


def _path(driver: Driver, d: dict[str, Any], p: dict[str, Any]) -> DominantPath:
    visits = ask(driver, "MATCH (:Path {hash: $h})-[:VISITS]->(v) RETURN v.idx ORDER BY v.idx", h=p["hash"])
    assert visits == sorted(p["vertices"])
    return DominantPath(
        vertices=tuple(p["vertices"]),
        **{name: tuple(d.get(name, ())) for name in ("index", "weight", "gradient")},
        **{name: d[name] for name in ("scalar", "parameter_gradient", "mass", "share", "margin", "concentration")},
        **{name: d.get(name) for name in ("example", "time")},
    )


def with_shares(routes: tuple[RouteShare, ...]) -> tuple[RouteShare, ...]:
    """The rows with shares made from their masses: a parameter's rows, "other" among them, add up to the whole."""
    total = {name: math.fsum(r.mass for r in routes if r.parameter == name) for name in {r.parameter for r in routes}}
    whole = [total[r.parameter] for r in routes]
    return tuple(
        replace(r, share=r.mass / all_of_it if all_of_it else 0.0) for r, all_of_it in zip(routes, whole, strict=True)
    )


def arranged(step: StepTrace) -> StepTrace:
    """`step` with its traces and their rows in an order of their own, so that two can be compared."""
    traces = sorted(step.traces, key=lambda t: (t.batch, t.mode))
    return replace(
        step,
        traces=tuple(
            replace(
                t,
                parameters=tuple(sorted(t.parameters, key=lambda p: p.vertex)),
                components=tuple(sorted(t.components, key=lambda c: c.component)),
                routes=tuple(sorted(t.routes, key=lambda r: (r.parameter, r.rank))),
            )
            for t in traces
        ),
        spreads=tuple(
            replace(
                t,
                parameters=tuple(sorted(t.parameters, key=lambda p: p.vertex)),
                components=tuple(sorted(t.components, key=lambda c: c.component)),
            )
            for t in sorted(step.spreads, key=lambda t: (t.batch, t.mode))
        ),
        scalars=tuple(sorted(step.scalars, key=lambda t: t.batch)),
    )


def as_stored(step: StepTrace) -> StepTrace:
    """`arranged`, without what the store leaves out: path arrays beyond the 8 strongest and the watched, routes' shares."""
    made = []
    for t in step.traces:
        routes = with_shares(t.routes)
        for sent, derived in zip(t.routes, routes, strict=True):
            assert math.isclose(sent.share, derived.share, rel_tol=1e-9, abs_tol=1e-12)  # left out, not lost
        live = [p for p in t.parameters if p.strongest is not None]
        kept = {p.parameter for p in sorted(live, key=lambda p: -p.mass)[:8]} | set(step.watched)
        rows = [
            p
            if p.strongest is None or p.parameter in kept
            else replace(p, strongest=replace(p.strongest, index=(), weight=(), gradient=()))
            for p in t.parameters
        ]
        made.append(replace(t, parameters=tuple(rows), routes=routes))
    return arranged(replace(step, traces=tuple(made)))


def assert_whole(driver: Driver, run: str, steps: list[StepTrace]) -> None:
    """The store holds exactly `steps` of the run, each of them whole."""
    held = steps_of(driver, run)
    assert [s.step for s in held] == [s.step for s in steps]
    for found, sent in zip(held, steps, strict=True):
        assert same(found, as_stored(sent)), f"step {sent.step}"


def census(driver: Driver) -> dict[str, int]:
    """Number of nodes by label and of relationships by type."""
    nodes = ask(driver, "MATCH (n) UNWIND labels(n) AS label RETURN label, count(*)")
    return dict(nodes + ask(driver, "MATCH ()-[r]->() RETURN type(r), count(*)"))


def fill(driver: Driver) -> dict[str, int]:
    """A digest of all properties: nothing may change it when nothing is to change. Locks and clocks are left out."""
    rows = ask(
        driver,
        "MATCH (n) UNWIND keys(n) AS k WITH labels(n)[0] AS l, k, n WHERE NOT k IN ['lock', 'updated', 'ended'] "
        "RETURN l + '.' + k, count(*)",
    )
    more = ask(driver, "MATCH ()-[n]->() UNWIND keys(n) AS k RETURN type(n) + '.' + k, count(*)")
    sums = ask(driver, "MATCH ()-[f:FOLLOWS]->() RETURN 'follows', sum(f.steps)")
    sums += ask(driver, "MATCH ()-[t:TOOK]->() RETURN 'took', sum(t.steps)")
    sums += ask(driver, "MATCH ()-[f:EPOCH_SHARE]->() RETURN 'shares', sum(f.steps)")
    sums += ask(driver, "MATCH (e:Epoch) RETURN 'epochs', sum(e.steps)")
    return dict(rows + more + sums)
