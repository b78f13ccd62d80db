"""The data model, whole: everything that is sent comes back, and nothing else is there."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from neo4j import Driver

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink
from gradtrace.service.store.keys import crossed, route_hash
from gradtrace.service.store.routes import route_of
from gradtrace.tracer.component_names import ancestors
from gradtrace.tracer.graph import Edge, Graph, Vertex, components_from_paths
from gradtrace.tracer.routes import collapse
from gradtrace.tracer.steptrace import StepTrace, route_text
from tests import synthetic
from tests.service.store.readback import LABELS, TYPES, address, as_stored, ask, assert_whole, census, steps_of
from tests.synthetic import run_record, step_trace

BOTH = {"modes": ("greedy", "maxprod"), "batches": ("training", "probe"), "parameters": 10}


def store_all(server: ServerInfo, steps: list[StepTrace], **options: int) -> int:
    with Neo4jSink(*address(server), **options) as sink:
        sink.open_run(run_record("r"))
        for step in steps:
            sink.write(step)
        assert sink.flush() == len({(s.run, s.step) for s in steps})
        return sink.created


OF_SCALAR_GRAPHS = {"ScalarGraph", "Scalar", "HAS_SCALARS", "HAS_SCALAR", "OF", "WEIGHS", "NEXT"}
"""Labels and types that steps at operator granularity have none of; test_scalars.py is about those."""


def test_everything_comes_back(clean_store: ServerInfo, driver: Driver) -> None:
    sums = ("entropy", "abs-sum")
    steps = [
        step_trace("r", n, epoch=n // 4, watched=("head.p8", "nobody"), spreads=sums, **BOTH) for n in (0, 3, 4, 6, 13)
    ]
    created = store_all(clean_store, steps)
    assert_whole(driver, "r", steps)
    counts = census(driver)
    migrations, parameters = counts["Migration"], counts["Parameter"]
    assert set(counts) == (LABELS | TYPES) - OF_SCALAR_GRAPHS
    # what the sink counted is what is there, but for the run and its experiment
    assert created == sum(counts.values()) - migrations - parameters - 3
    details = [len(s.traces[0].parameters) - sum(p.strongest is None for p in s.traces[0].parameters) for s in steps]
    assert min(details) > 8  # so that some path arrays are left out


def test_a_probe_alone_is_the_primary_batch(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", 2, batches=("probe",), modes=("maxprod",))]
    store_all(clean_store, steps)
    assert_whole(driver, "r", steps)
    assert ask(driver, "MATCH (s:Step) RETURN s.batch") == ["probe"]


def test_paths_routes_and_crossings(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", n, **BOTH) for n in range(3)]
    store_all(clean_store, steps)
    graphs = {t.graph.fingerprint: t.graph for s in steps for t in s.traces}
    sent = {
        (t.graph.fingerprint, p.strongest.vertices)
        for s in steps
        for t in s.traces
        for p in t.parameters
        if p.strongest is not None
    }
    rows = ask(
        driver,
        "MATCH (g:Graph)<-[:ON]-(p:Path)-[:TAKES]->(r:Route) "
        "RETURN g.fingerprint, p.vertices, r.components, r.text, r.hash",
    )
    assert {(row[0], tuple(row[1])) for row in rows} == sent and len(rows) == len(sent)
    for fingerprint, vertices, components, text, key in rows:
        assert tuple(components) == route_of(graphs[fingerprint], vertices)
        assert text == route_text(tuple(components)) and key == route_hash(components)
    routes = {r.route for s in steps for t in s.traces for r in t.routes} | {tuple(row[2]) for row in rows}
    held = {
        None if key == "other" else tuple(components): sorted(paths)
        for key, components, paths in ask(
            driver,
            "MATCH (r:Route) RETURN r.hash, r.components, COLLECT { MATCH (r)-[:CROSSES]->(c:Component) RETURN c.path }",
        )
    }
    assert held == {route: sorted(crossed(route or ())) for route in routes}


def under(step: StepTrace, name: str) -> StepTrace:
    """The same step of a model of another name, and so of another architecture."""
    return replace(step, traces=tuple(replace(t, graph=replace(t.graph, name=name)) for t in step.traces))


@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "one after the other"])
def test_a_route_of_two_architectures_is_one_and_crosses_the_components_of_both(
    clean_store: ServerInfo, driver: Driver, at_once: bool
) -> None:
    one, other = step_trace("r", 0), under(step_trace("r", 1), "another")
    same = under(step_trace("r", 0), "another")
    steps = [one, replace(same, step=2), other]
    for batch in [steps] if at_once else [[step] for step in steps]:
        store_all(clean_store, batch)
    tokens = {key: tuple(held) for key, held in ask(driver, "MATCH (r:Route) RETURN r.hash, r.components")}
    found = {
        (key, architecture): sorted(paths)
        for key, architecture, paths in ask(
            driver,
            "MATCH (r:Route)-[:CROSSES]->(c:Component)<-[:OFFERS]-(a:Architecture) RETURN r.hash, a.name, collect(c.path)",
        )
    }
    ran: dict[tuple[str, str], list[str]] = {}
    for step in steps:
        for trace in step.traces:
            taken = {r.route for r in trace.routes if r.route}
            taken |= {route_of(trace.graph, p.strongest.vertices) for p in trace.parameters if p.strongest}
            ran |= {(route_hash(r), trace.graph.name): sorted(crossed(r)) for r in taken if r}
    assert found == ran and set(tokens) >= {key for key, _ in ran}
    assert len({key for key, _ in ran}) < len(ran), "some routes are of both"


def test_crossing_a_part_is_crossing_the_whole() -> None:
    found = crossed(("a.b+", "(", "a.c", "d", ")+", "<model>"))
    assert found == {"a.b", "a", "<model>", "a.c", "d"}
    assert all(set(ancestors(path)) <= found for path in found)


@pytest.mark.parametrize(
    "line,route",
    [
        ("", ""),
        ("a", "a"),
        ("a a", "a+"),
        ("a b a b a", "(a b)+ a"),
        ("a a b a a b", "(a+ b)+"),
        ("a b c b c d d", "a (b c)+ d+"),
        ("x a b a b c a b a b c", "x ((a b)+ c)+"),
    ],
)
def test_routes_collapse_shortest_first(line: str, route: str) -> None:
    tokens = collapse(tuple(line.split()))
    assert route_text(tokens) == route
    assert tokens == synthetic.collapse(tuple(line.split()))


def test_the_dominant_walk_is_a_walk(clean_store: ServerInfo, driver: Driver) -> None:
    """DESIGN's example query: from a parameter over dominant edges to the loss."""
    step = step_trace("r", 5)
    store_all(clean_store, [step])
    trace = step.traces[0]
    out = {trace.graph.edges[i].source: trace.graph.edges[i].target for i in trace.dominant.nonzero()[0]}
    for p in (p for p in trace.parameters if p.mass):
        line = [p.vertex]
        while line[-1] in out:
            line.append(out[line[-1]])
        rows = ask(
            driver,
            "MATCH (t:Trace {key: $key}) MATCH (p:Parameter {name: $name}) "
            '((a)-[e:EDGE]->(b) WHERE t.dominant[e.idx])+ (l:Vertex {kind: "loss"}) RETURN p.idx, [x IN b | x.idx]',
            key="r:5:greedy:training",
            name=p.parameter,
        )
        assert [[row[0], *row[1]] for row in rows] == [line]


def test_the_run_and_its_experiment(clean_store: ServerInfo, driver: Driver) -> None:
    odd = {"optimizer.lr": 0.5, "größe": 3, "a b`c": "x", "huge": 2**80, "flag": True, "nan": math.nan}
    record = run_record("läuf/1", experiment="Ω", workload="w", **odd)  # type: ignore[arg-type]
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(record)
        sink.open_run(run_record("läuf/1", experiment="other", lr=77.0))
        (run,) = ask(driver, "MATCH (r:Run)-[:IN]->(:Experiment {name: 'Ω'}) RETURN properties(r)")
        assert (run["id"], run["status"], run["workload"], run["modes"]) == ("läuf/1", "RUNNING", "w", ["greedy"])
        assert (run["fence"], run["attempts"]) == (0, 1)
        assert run["started"] and run["lease"] and "ended" not in run and "reason" not in run
        stored = {k.removeprefix("param_"): v for k, v in run.items() if k.startswith("param_")}
        sent = {k: str(v) if k == "huge" else v for k, v in record.parameters.items() if v is not None}
        assert math.isnan(stored.pop("nan")) and math.isnan(sent.pop("nan"))
        assert stored == sent
        back = json.loads(run["parameters"])
        assert math.isnan(back.pop("nan"))
        assert back == {k: v for k, v in record.parameters.items() if k != "nan"}
        sink.close_run("läuf/1", "FAILED", "loss is NaN")
    (run,) = ask(driver, "MATCH (r:Run) RETURN properties(r)")
    assert (run["status"], run["reason"]) == ("FAILED", "loss is NaN") and run["ended"]
    assert ask(driver, "MATCH (r:Run) RETURN r.`param_optimizer.lr`") == [0.5]


def test_names_in_any_script(clean_store: ServerInfo, driver: Driver) -> None:
    """Names that are no identifiers: quotes, spaces, newlines, other scripts, an emoji."""
    home = "модель.слой 0.l'ée\"\n`x`"
    vertices = (
        Vertex(0, "parameter", "", "вес 🦊 {a: 1}", home, (2,)),
        Vertex(1, "loss", "Mul", f"{home}/Mul", home, (), 0),
    )
    graph = Graph("Модель ' \"", vertices, (Edge(0, 0, 1, 0),), components_from_paths({home: "rôle"}))
    step = synthetic.step_trace("r", 0, vertices=5, parameters=1)
    made = _on(step, graph, home)
    store_all(clean_store, [made])
    assert_whole(driver, "r", [made])


def _on(step: StepTrace, graph: Graph, home: str) -> StepTrace:
    """A tiny step on a graph of one parameter and one operator."""
    trace = step.traces[0]
    p = next(p for p in trace.parameters if p.strongest)
    assert p.strongest is not None
    path = replace(p.strongest, vertices=(1,), index=(0,), weight=(0.5,), gradient=(-math.inf,))
    one = np.ones(1)
    name = graph.vertices[0].name
    changed = replace(
        trace,
        graph=graph,
        flow=one * math.nan,
        peak=one * math.inf,
        traffic=np.ones(1, np.int64),
        mass=one,
        dominant=np.ones(1, bool),
        parameters=(replace(p, parameter=name, vertex=0, shape=(2,), strongest=path),),
        components=tuple(replace(trace.components[0], component=c.path) for c in graph.components),
        routes=(replace(trace.routes[0], route=(home,)), replace(trace.routes[0], parameter=name, route=None, rank=2)),
    )
    return replace(step, traces=(changed,))


def test_readback_sees_differences(clean_store: ServerInfo, driver: Driver) -> None:
    """The comparison itself can fail: one changed number is seen."""
    steps = [step_trace("r", 0)]
    store_all(clean_store, steps)
    for change in (
        "MATCH ()-[c:CARRIES]->() WITH c LIMIT 1 SET c.won = c.won + 1",
        "MATCH ()-[d:DOMINANT]->() WITH d LIMIT 1 SET d.scalar = d.scalar + 1",
        "MATCH (t:Trace) SET t.consistent = NOT t.consistent",
    ):
        ask(driver, change)
        with pytest.raises(AssertionError):
            assert_whole(driver, "r", steps)
    assert len(steps_of(driver, "r")) == 1 and as_stored(steps[0]).step == 0
