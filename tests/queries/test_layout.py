"""A store written in every way there is: what is documented of it is what it holds, the idioms run on it, and the runs that
did not finish say why."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from neo4j import Driver

from gradtrace.queries import Library, find, registry
from gradtrace.queries.idioms import IDIOMS, Idiom
from gradtrace.queries.layout import LABELS, RELATIONSHIPS
from gradtrace.service.store import connect
from gradtrace.service.store.expand import expand
from gradtrace.service.store.holders import me
from gradtrace.service.store.jobs import Denied, Grant, Jobs, Ticket
from gradtrace.service.store.prune import PrunePolicy, prune
from gradtrace.service.store.scalars import write_drafts
from gradtrace.service.store.sink import Neo4jSink
from gradtrace.tracer.steptrace import RunRecord
from tests.queries.conftest import connected, emptied
from tests.queries.reference import dominant_walk
from tests.queries.worlds import Run
from tests.synthetic import run_record, step_trace

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

TRACED = Run(
    run_record("traced", modes=("greedy", "maxprod")),
    tuple(
        step_trace(
            "traced",
            s,
            epoch=s // 2,
            modes=("greedy", "maxprod"),
            batches=("training", "probe"),
            spreads=("entropy",),
            watched=("embed.p0",),
            scalars=True,
        )
        for s in range(6)
    ),
)


@pytest.fixture(scope="module")
def driver(neo4j_server: ServerInfo) -> Iterator[Driver]:
    with connected(neo4j_server) as driver:
        emptied(driver)
        with closing(Neo4jSink(neo4j_server.uri, neo4j_server.user, neo4j_server.password)) as sink:
            sink.open_run(TRACED.record)
            for step in TRACED.steps:
                sink.write(step)
            sink.note_held_out("traced", {"loss": 0.5, "accuracy": 0.25})
            sink.close_run("traced", "INTERRUPTED", "Ctrl-C")
        prune(driver, PrunePolicy(runs=("traced",), keep_last=4))
        expand(driver, "traced", 5)
        with driver.session(database="neo4j") as session:  # a writer that was killed
            write_drafts(session, [step_trace("traced", 99, scalars=True)], [])
        with connect(neo4j_server.uri, neo4j_server.user, neo4j_server.password, "neo4j") as store:
            _work(Jobs(store))
        yield driver


def _work(jobs: Jobs) -> None:
    """Submitted runs in every state."""

    def submitted(run: str) -> Ticket:
        return jobs.submit(RunRecord(run, "digits-mlp", "queued", {"lr": 0.1}), "{}", 10)

    def taken(run: str, seconds: float = 600.0) -> Grant:
        grant = jobs.acquire(submitted(run), me(), seconds, 3)
        assert isinstance(grant, Grant)
        return grant

    submitted("waits")
    jobs.release(taken("tried"), graceful=False, problem="out of memory")
    lost = taken("lost", seconds=0.001)
    jobs.note(lost, "it was too slow")
    jobs.end(taken("done"), "FINISHED", None)
    jobs.end(taken("poisoned"), "FAILED", "no progress")
    submitted("unwanted")
    assert jobs.cancel("unwanted") == "cancelled"
    held = taken("held")
    jobs.renew(held, 600.0, {"live_step": 3, "live_loss": 0.5, "live_rate": 2.0})
    jobs.advanced(held, "0000000003-1.safetensors", 3, {})
    assert jobs.cancel("held") == "stopping"
    assert isinstance(jobs.acquire(Ticket("held", held.fence), me(), 600.0, 3), Denied)


@pytest.fixture(scope="module")
def library(driver: Driver) -> Library:
    return Library(driver)


def _held(driver: Driver, pattern: str, kinds: str) -> dict[str, set[str]]:
    text = f"MATCH {pattern} UNWIND {kinds} AS kind UNWIND [null] + keys(x) AS key RETURN DISTINCT kind, key"
    found: dict[str, set[str]] = defaultdict(set)
    for kind, key in driver.execute_query(text, database_="neo4j").records:
        found[kind].update(() if key is None else (re.sub(r"^(param|held_out)_.*", r"\1_*", key),))
    return found


def test_labels_and_their_properties_are_those_of_the_store(driver: Driver) -> None:
    found = _held(driver, "(x)", "labels(x)")
    assert found.pop("Parameter") <= found["Vertex"]
    assert found == {part.name: set(part.properties) for part in LABELS if part.name != "Parameter"}


def test_relationships_and_their_properties_are_those_of_the_store(driver: Driver) -> None:
    assert _held(driver, "()-[x]->()", "[type(x)]") == {part.name: set(part.properties) for part in RELATIONSHIPS}


def test_relationships_lead_where_their_pattern_says(driver: Driver) -> None:
    text = "MATCH (a)-[x]->(b) RETURN DISTINCT labels(a) AS a, type(x) AS x, labels(b) AS b"
    documented = {}
    for part in RELATIONSHIPS:
        ends = re.fullmatch(r"\(:([\w|]+)\)-\[:(\w+)\]->\(:([\w|]+)\)", part.pattern)
        assert ends is not None and ends[2] == part.name
        documented[part.name] = (set(ends[1].split("|")), set(ends[3].split("|")))
    starts: dict[str, set[str]] = defaultdict(set)
    for a, kind, b in driver.execute_query(text, database_="neo4j").records:
        assert set(a) & documented[kind][0] and set(b) & documented[kind][1], (a, kind, b)
        starts[kind].update(a)
    for kind, (from_, _) in documented.items():
        assert from_ <= starts[kind], f"{kind} starts at none of {from_ - starts[kind]}"


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda i: i.name)
def test_every_idiom_passes_the_gate_and_finds_something(library: Library, idiom: Idiom) -> None:
    known: dict[str, object] = {"run": "traced"} if "run" in idiom.parameters else {"experiment": "default"}
    for name, lookup in idiom.parameters.items():
        given = {k: v for k, v in known.items() if k in find(lookup.question).parameters}
        known.setdefault(name, library.run(lookup.question, **given).rows[0][lookup.column])
    answer = library.cypher(idiom.cypher, known)
    assert answer.rows and answer.notes == ()
    assert "'" not in idiom.cypher  # it stands between such marks in `command`


def test_the_idioms_of_the_design_say_what_the_step_says(library: Library) -> None:
    step = TRACED.steps[-1]
    trace = step.traces[0]
    by_name = {idiom.name: idiom.cypher for idiom in IDIOMS}
    flows = library.cypher(by_name["the flow of every edge"], {"run": "traced", "step": 5}).rows
    expected = sorted((float(x) for x in trace.flow), reverse=True)[:20]
    assert [row["flow"] for row in flows] == pytest.approx(expected)
    name = next(p.parameter for p in trace.parameters if p.strongest)
    asked = {"run": "traced", "step": 5, "parameter": name}
    [walk] = library.cypher(by_name["the dominant walk of a parameter"], asked).rows
    hops = dominant_walk({"traced": TRACED}, "traced", name, "greedy", "training", 5)
    assert (walk["operators"], walk["hops"]) == ([h["operator"] for h in hops], len(hops))


def test_unfinished_runs_say_what_is_the_matter(library: Library) -> None:
    answer = library.run("unfinished-runs")
    found = {row["run"]: (row["status"], row["matter"], row["reason"], row["attempts"]) for row in answer}
    assert found == {
        "waits": ("QUEUED", "it waits for a worker", None, 0),
        "tried": ("QUEUED", "it waits for a worker to try it again", "out of memory", 1),
        "lost": ("RUNNING", "its worker is gone: the lease ran out", "it was too slow", 1),
        "poisoned": ("FAILED", "it failed", "no progress", 1),
        "unwanted": ("INTERRUPTED", "it was ended before its time", "cancelled", 0),
        "traced": ("INTERRUPTED", "it was ended before its time", "Ctrl-C", 1),
    }
    seen = answer.column("seen")
    assert seen == sorted(seen, reverse=True)
    assert {row["run"]: row["planned"] for row in answer}["waits"] == 10
    assert [row["run"] for row in library.run("unfinished-runs", experiment="default")] == ["traced"]
    assert registry()["unfinished-runs"].group == "health"
