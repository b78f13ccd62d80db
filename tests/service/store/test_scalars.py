"""Scalar graphs in the store: what is read back is what the oracle says, once, and goes when its step is pruned."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from neo4j import Driver

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink, PrunePolicy, prune
from gradtrace.service.store.check_scalars import check_scalars
from gradtrace.service.store.expand import collapse, expand
from gradtrace.service.store.prune_scalars import drop_graphs, graphs_of
from gradtrace.service.store.scalars import MOST, Draft, unlinked, write_drafts
from gradtrace.service.store.steps import write_steps
from gradtrace.service.store.structure import Known, MissingStructureError, write_structure
from gradtrace.tracer import Tracer
from gradtrace.tracer.errors import SinkError
from gradtrace.tracer.scalargraph import ScalarGraph, ScalarTrace
from gradtrace.tracer.steptrace import StepTrace
from tests.problems.collection import by_name
from tests.same import plain, same
from tests.service.store.readback import address, as_stored, ask, assert_whole, census, scalars_of, steps_of
from tests.synthetic import run_record, step_trace
from tests.tracer.oracles import oracle_of
from tests.tracer.scalar_judging import assert_true

MODES = ("greedy", "maxprod")
SCALARS = ("ScalarGraph", "Scalar", "HAS_SCALARS", "HAS_SCALAR", "OF", "WEIGHS", "NEXT")
PROBLEMS = ("net/mlp", "net/tied", "move/index", "recurrent/lstm_cell", "write/slice_add")
CHAIN_RULE = """
MATCH (:Step {run: $run})-[:HAS_SCALARS]->()-[:HAS_SCALAR]->(v:Scalar)-[w:WEIGHS]->(u:Scalar)
WITH v, sum(w.weight * u.gradient) AS arrived
RETURN count(v), sum(CASE WHEN abs(arrived - v.gradient) > 1e-9 * abs(v.gradient) + 1e-12 THEN 1 ELSE 0 END)
"""
NO_WAY_ON = """
MATCH (:Step {run: $run})-[:HAS_SCALARS]->()-[:HAS_SCALAR]->(v:Scalar)-[:OF]->(o:Vertex) WHERE NOT EXISTS { (v)-[:WEIGHS]->() }
RETURN v.gradient, o.kind
"""


def traced(name: str, run: str) -> StepTrace:
    """One step of a problem, both modes, on its batch as training and as probe batch."""
    model, closure = by_name(name).make(0)
    tracer = Tracer(
        model, run=run, mode=MODES, probe=closure, batches=("training", "probe"), granularity="scalar", every=1
    )
    with tracer.step() as step:
        step.backward(closure())
    assert step.trace is not None
    return step.trace


def test_what_is_read_back_is_what_the_oracle_says(clean_store: ServerInfo, driver: Driver) -> None:
    sent = {name: traced(name, name) for name in PROBLEMS}
    with Neo4jSink(*address(clean_store)) as sink:
        for step in sent.values():
            sink.write(step)
    for name, step in sent.items():
        (held,) = steps_of(driver, name)
        assert same(held, as_stored(plain([step])[0]))
        for found in held.scalars:
            assert_true(found.scalars, found.graph, oracle_of(by_name(name)), MODES)
        ((vertices, wrong),) = ask(driver, CHAIN_RULE, run=name)
        assert vertices > 20 and wrong == 0
        for gradient, kind in ask(driver, NO_WAY_ON, run=name):  # the loss, and what nothing depends on
            assert gradient == (1.0 if kind == "loss" else 0.0)
        assert (check_scalars(driver, name).state, check_scalars(driver, name).steps) == ("true", 1)


def test_a_folded_step_keeps_its_scalars_apart(clean_store: ServerInfo, driver: Driver) -> None:
    problem = by_name("recurrent/lstm_two_layers_last")
    step = traced(problem.name, "r")
    with Neo4jSink(*address(clean_store), fold="always") as sink:
        sink.write(step)
    assert ask(driver, "MATCH (:Scalar)-[:OF]->(:Vertex)<-[:HAS]-(g:Graph) RETURN DISTINCT g.folded") == [True]
    exact = next(t.scalars for t in step.scalars if t.batch == "training")
    graph = steps_of(driver, "r")[0].traces[0].graph
    held = scalars_of(driver, "r:0", "training", graph).scalars
    assert np.array_equal(held.weight, exact.weight) and np.array_equal(held.gradient, exact.gradient)
    assert_true(replace(held, vertex=exact.vertex, edge=exact.edge), step.traces[0].graph, oracle_of(problem), MODES)
    assert check_scalars(driver, "r").state == "true"


def test_a_second_attempt_changes_nothing(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", n, modes=MODES, batches=("training", "probe"), scalars=True) for n in (1, 6)]
    with Neo4jSink(*address(clean_store)) as sink:
        sink.write(steps[0])
    before = census(driver)
    with Neo4jSink(*address(clean_store)) as again:  # the same step and another one, in one batch
        again.write(step_trace("r", 1, seed=4, modes=MODES, scalars=True))
        again.write(steps[0])
        assert again.flush() == 1
    assert {k: census(driver)[k] for k in SCALARS} == {k: before[k] for k in SCALARS}
    with Neo4jSink(*address(clean_store)) as more:
        for step in steps:
            more.write(step)
    assert_whole(driver, "r", steps)  # NaN and infinite weights of step 6 among them


def test_drafts_of_a_writer_that_died_are_of_no_step_and_go(clean_store: ServerInfo, driver: Driver) -> None:
    step = step_trace("r", 1, modes=MODES, scalars=True)
    with Neo4jSink(*address(clean_store)) as sink:
        sink.write(step_trace("r", 0, modes=MODES))  # the graph is stored, and has no scalars yet
        sink.flush()
        drafts: list[Draft] = []
        with driver.session(database="neo4j") as session:
            write_drafts(session, [step], drafts)  # and here the writer died
            assert unlinked(session, drafts) == [draft.graph for draft in drafts] and len(drafts) == 1
        sink.write(step)
    assert_whole(driver, "r", [step_trace("r", 0, modes=MODES), step])
    before = census(driver)
    assert before["ScalarGraph"] == 2 and before["HAS_SCALARS"] == 1
    keep = PrunePolicy(runs=("r",), keep_last=9)
    assert prune(driver, keep).scalars == 0 and census(driver) == before  # its writer may be at it still
    ask(driver, "MATCH (g:ScalarGraph) WHERE g.draft IS NOT NULL SET g.draft = g.draft - duration({hours: 3})")
    would = prune(driver, keep, dry_run=True)
    done = prune(driver, keep)
    assert done == would and done.scalars == len(step.scalars[0].scalars.vertex)
    after = census(driver)
    assert (
        after["ScalarGraph"] == 1
        and after["Scalar"] * 2 == before["Scalar"]
        and after["WEIGHS"] * 2 == before["WEIGHS"]
    )
    assert_whole(driver, "r", [step_trace("r", 0, modes=MODES), step])


def test_a_draft_that_lost_something_makes_no_step(clean_store: ServerInfo, driver: Driver) -> None:
    step = step_trace("r", 1, scalars=True)
    with Neo4jSink(*address(clean_store)) as sink:
        sink.write(step_trace("r", 0))
        sink.flush()
    drafts: list[Draft] = []
    with driver.session(database="neo4j") as session:
        session.execute_write(write_structure, Known().missing([step]))
        write_drafts(session, [step], drafts)
        session.run("MATCH (:Scalar)-[n:NEXT]->() WITH n LIMIT 1 DELETE n").consume()
        with pytest.raises(
            MissingStructureError, match=r"has \(\d+, \d+, \d+, \d+\) scalars, places, edges and pointers"
        ):
            session.execute_write(write_steps, [step], {}, drafts)
        with pytest.raises(MissingStructureError, match="taken away"):
            session.execute_write(write_steps, [step], {}, [])
    assert ask(driver, "MATCH (s:Step) RETURN s.step") == [0]


def test_a_step_whose_vertices_are_gone_is_written_whole_or_not_at_all(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", n, scalars=True) for n in (1, 2)]
    with Neo4jSink(*address(clean_store)) as sink:
        sink.write(steps[0])
        sink.flush()
        gone = ask(driver, "MATCH (v:Vertex {kind: 'loss'}) DETACH DELETE v RETURN count(*)")
        assert gone == [1]
        sink.write(steps[1])
        with pytest.raises(Exception, match=r"was refused and is not stored: Writing places of scalars created"):
            sink.flush()
        sink.close(discard=True)
    assert ask(driver, "MATCH (s:Step) RETURN s.step") == [1]
    assert ask(
        driver, "MATCH (x:Scalar) WHERE NOT EXISTS { (:Step)-[:HAS_SCALARS]->()-[:HAS_SCALAR]->(x) } RETURN count(x)"
    ) == [0]


def test_scalars_go_with_their_step(clean_store: ServerInfo, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gradtrace.service.store.prune_scalars._SCALARS", 50
    )  # so that a step takes several transactions
    steps = [step_trace("r", n, modes=MODES, scalars=True) for n in range(4)]
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(run_record("r"))
        for step in steps:
            sink.write(step)
        sink.close_run("r", "FINISHED")
    before = census(driver)
    expand(driver, "r", 1)
    collapse(driver, "r", 1)
    assert census(driver) == before
    policy = PrunePolicy(runs=("r",), keep_last=2)
    would = prune(driver, policy, dry_run=True)
    assert census(driver) == before
    scalars = sum(len(t.scalars.vertex) for step in steps[:2] for t in step.scalars)
    done = prune(driver, policy)
    assert done == would and done.scalars == scalars > 100
    after = census(driver)
    assert before["Scalar"] - after["Scalar"] == before["OF"] - after["OF"] == scalars
    assert_whole_but_pruned(driver, steps)
    # A prune that was killed after it had marked a step: its scalars go with the next one.
    ask(driver, "MATCH (s:Step {step: 2}) SET s.pruned = datetime()")
    with driver.session(database="neo4j") as session:
        left, hung = drop_graphs(session, graphs_of(session, ["r:2"]), dry_run=True)
    found = prune(driver, PrunePolicy(runs=("r",), keep_last=4))
    assert found.steps == {} and (found.scalars, found.relationships) == (left, hung) and left > 50
    assert ask(driver, "MATCH (s:Step)-[:HAS_SCALARS]->() RETURN s.step") == [3]


def assert_whole_but_pruned(driver: Driver, steps: list[StepTrace]) -> None:
    """The last two steps have all their scalars, the first two have none."""
    for step in steps[2:]:
        for sent in step.scalars:
            found = scalars_of(driver, f"r:{step.step}", sent.batch, sent.graph)
            assert np.array_equal(found.scalars.weight, sent.scalars.weight)
    left = "MATCH (s:Step) WHERE s.step < 2 RETURN COUNT { (s)-[:HAS_SCALARS]->() }"
    assert ask(driver, left) == [0, 0]


CHANGES = (
    (
        "MATCH (x)-[w:WEIGHS {idx: 5}]->() DELETE w",
        "359 scalar edges are there, 360 were written",
    ),
    (
        "MATCH (x {idx: 3})-[o:OF]->() DELETE o",
        "127 scalars with a vertex are there, 128 were",
    ),
    (
        "MATCH (x {idx: 3}) SET x.gradient = x.gradient + 1",
        r"Σ w·g is .* at scalar 3 \(training\)",
    ),
    ("MATCH (x)-[w:WEIGHS {idx: 5}]->() SET w.flow = w.flow + 1", r"the scalar edges of edge \d+ .* add up to"),
)


def test_a_check_finds_what_was_changed(clean_store: ServerInfo, driver: Driver) -> None:
    step = traced("net/mlp", "0")
    step = replace(
        step,
        traces=tuple(t for t in step.traces if t.batch == "training"),
        scalars=tuple(t for t in step.scalars if t.batch == "training"),
    )
    with Neo4jSink(*address(clean_store)) as sink:
        for run in range(len(CHANGES) + 1):
            sink.write(replace(step, run=str(run)))
    for run, (change, said) in enumerate(CHANGES):
        assert check_scalars(driver, str(run)).state == "true"
        match = f"MATCH (:Step {{run: '{run}'}})-[:HAS_SCALARS]->()-[:HAS_SCALAR]->(x) WITH x "
        ask(driver, match + change)
        found = check_scalars(driver, str(run))
        assert found.state == "wrong" and found.wrong >= 1
        assert any(re.search(said, text) for text in found.examples), found
    assert check_scalars(driver, str(len(CHANGES))).state == "true"
    assert check_scalars(driver, "nobody").state is None


def huge(trace: ScalarTrace) -> ScalarTrace:
    count = MOST + 1
    numbers, none = np.zeros(count, np.int64), np.zeros(0, np.int64)
    return replace(
        trace,
        scalars=ScalarGraph(
            numbers, numbers, np.arange(count), (None,) * count, np.zeros(count), none, none, none, none,
            np.zeros(0), {}, 0,
        ),
    )  # fmt: skip


UNSTORABLE: tuple[tuple[Callable[[ScalarTrace], ScalarTrace], str], ...] = (
    (huge, r"200,001 vertices and 0 edges, together more than the 200,000 that the store takes"),
    (lambda t: replace(t, batch="probe"), "of an operator graph that no trace of this batch has"),
    (
        lambda t: replace(t, scalars=replace(t.scalars, weight=t.scalars.weight[1:])),
        "has 222 entries in source, and 221 in other columns",
    ),
    (lambda t: replace(t, scalars=replace(t.scalars, target=t.scalars.target + 10**6)), "refers by target"),
    (lambda t: replace(t, scalars=replace(t.scalars, vertex=t.scalars.vertex - 10**6)), "refers by vertex"),
)


def test_what_cannot_be_stored_is_refused_before_anything_is_written(clean_store: ServerInfo, driver: Driver) -> None:
    step = step_trace("r", 1, scalars=True)
    with Neo4jSink(*address(clean_store)) as sink:
        for change, said in UNSTORABLE:
            with pytest.raises(SinkError, match=said):
                sink.write(replace(step, scalars=tuple(change(t) for t in step.scalars)))
        assert sink.flush() == 0
    assert ask(driver, "MATCH (n) WHERE NOT n:Migration RETURN count(n)") == [0]
