"""Pruning drops the detail of steps and nothing else."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from neo4j import Driver

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink, PrunePolicy, check_rollups, prune, rebuild_rollups
from gradtrace.tracer.errors import SpecError, StoreError
from gradtrace.tracer.steptrace import StepTrace
from tests.service.cli import environment, gradtrace, ok, refused
from tests.service.store.readback import address, ask, assert_whole, census
from tests.service.store.test_rollups import assert_true, held
from tests.synthetic import run_record, step_trace

BOTH = {"modes": ("greedy", "maxprod"), "batches": ("training", "probe")}
DETAILED = "MATCH (s:Step {run: $run}) WHERE EXISTS { (s)-[:HAS_TRACE]->() } RETURN s.step ORDER BY s.step"
SHARED = (
    "Architecture",
    "Component",
    "Graph",
    "Vertex",
    "Run",
    "Step",
    "Epoch",
    "HAS_STEP",
    "HAS_EPOCH",
    "FOLLOWS",
    "TOOK",
)


def steps_of(run: str, count: int = 12) -> list[StepTrace]:
    return [step_trace(run, n, epoch=n // 6, novelty=0.3, watched=("embed.p0",), **BOTH) for n in range(count)]


def store(server: ServerInfo, run: str, steps: list[StepTrace], status: str | None = "FINISHED", **more: Any) -> None:
    with Neo4jSink(*address(server)) as sink:
        sink.open_run(run_record(run, **more))
        for step in steps:
            sink.write(step)
        sink.flush()
        if status:
            sink.close_run(run, status)


def test_details_go_and_sums_stay(clean_store: ServerInfo, driver: Driver) -> None:
    steps = steps_of("r")
    store(clean_store, "r", steps)
    store(clean_store, "s", steps_of("s", 3))
    before, sums, edges = census(driver), held(driver, "r"), ask(driver, "MATCH ()-[e:EDGE]->() RETURN count(e)")
    said: list[tuple[str, int, int]] = []
    policy = PrunePolicy(runs=("r",), keep_last=2, keep_every=5)
    would = prune(driver, policy, dry_run=True)
    assert census(driver) == before
    done = prune(driver, policy, progress=lambda *now: said.append(now))
    assert done == would, (done, would)
    assert done.steps == {"r": 8} and done.traces == 32 and said[-1] == ("r", 8, 8)
    assert ask(driver, DETAILED, run="r") == [0, 5, 10, 11]
    after = census(driver)
    assert {k: after[k] for k in SHARED} == {k: before[k] for k in SHARED}
    assert after["Trace"] == before["Trace"] - 32
    lost = ("HAS_TRACE", "DOMINANT", "TOP", "LEFT", "CARRIES")
    assert sum(before[k] - after[k] for k in lost) + 32 == done.relationships  # and each trace's ON
    assert held(driver, "r") == sums and ask(driver, "MATCH ()-[e:EDGE]->() RETURN count(e)") == edges
    assert_true(driver, "r", steps)
    assert_whole(driver, "s", steps_of("s", 3))
    pruned = ask(
        driver, "MATCH (s:Step) WHERE s.pruned IS NOT NULL RETURN s.step, s.epoch, s.loss, s.flow ORDER BY s.step"
    )
    assert [row[0] for row in pruned] == [1, 2, 3, 4, 6, 7, 8, 9]


def test_many_steps_go_in_batches_of_ten(clean_store: ServerInfo, driver: Driver) -> None:
    store(clean_store, "r", steps_of("r", 27))
    said: list[tuple[str, int, int]] = []
    prune(driver, PrunePolicy(keep_last=2), progress=lambda *now: said.append(now))
    assert said == [("r", 10, 25), ("r", 20, 25), ("r", 25, 25)]


def test_a_pruned_step_does_not_come_back(clean_store: ServerInfo, driver: Driver) -> None:
    steps = steps_of("r", 6)
    store(clean_store, "r", steps)
    prune(driver, PrunePolicy(keep_last=2))
    before, sums = census(driver), held(driver, "r")
    store(clean_store, "r", steps)  # all of them again, by a writer that knows nothing
    assert census(driver) == before and held(driver, "r") == sums
    assert prune(driver, PrunePolicy(keep_last=2)).steps == {}  # nothing is left to prune
    more = step_trace("r", 9, epoch=1, novelty=0.3, **BOTH)
    store(clean_store, "r", [more])  # and new steps are still counted
    assert_true(driver, "r", [*steps, more])


def test_a_rebuild_after_it_is_refused(clean_store: ServerInfo, driver: Driver) -> None:
    store(clean_store, "r", steps_of("r", 4))
    store(clean_store, "s", steps_of("s", 2))
    prune(driver, PrunePolicy(runs=("r",), keep_every=2))
    sums = held(driver, "r")
    with pytest.raises(StoreError, match="2 of its steps were pruned, and only the rollups still hold"):
        rebuild_rollups(driver, "r")
    assert held(driver, "r") == sums
    found = check_rollups(driver, "r", rebuild=True)  # what can still be told is that nothing is missing
    assert (found.state, found.wrong, found.steps, found.pruned) == ("plausible", 0, 4, 2), found.examples
    ask(driver, "MATCH (:Run {id: 'r'})-[e:EPOCH_SHARE]->() WITH e LIMIT 1 SET e.traffic = -1")
    damaged = held(driver, "r")
    assert (check_rollups(driver, "r", rebuild=True).state, held(driver, "r")) == ("wrong", damaged)
    rebuild_rollups(driver, "s")
    assert_true(driver, "s", steps_of("s", 2))


def test_runs_are_chosen(clean_store: ServerInfo, driver: Driver) -> None:
    for run, status, experiment in (("a", "FINISHED", "x"), ("b", "FAILED", "y"), ("c", None, "x")):
        store(clean_store, run, steps_of(run, 2), status, experiment=experiment)
    ask(driver, "MATCH (r:Run {id: 'a'}) SET r.ended = datetime() - duration({days: 40})")
    for policy, runs in (
        (PrunePolicy(older_than=30), ["a"]),
        (PrunePolicy(older_than=50), []),
        (PrunePolicy(experiments=("x",)), ["a"]),  # c has not ended
        (PrunePolicy(keep_last=1), ["a", "b"]),
        (PrunePolicy(runs=("c", "b")), ["b", "c"]),
        (PrunePolicy(runs=("b",), experiments=("x",)), []),
    ):
        assert sorted(prune(driver, policy, dry_run=True).steps) == runs
    for policy, message in (
        (PrunePolicy(runs=("a", "nope")), "holds no run 'nope'"),
        (PrunePolicy(experiments=("nope",)), "holds no experiment 'nope'"),
    ):
        with pytest.raises(StoreError, match=message):
            prune(driver, policy)


def test_nothing_refers_to_what_is_removed(clean_store: ServerInfo, driver: Driver) -> None:
    steps = steps_of("r", 4)
    store(clean_store, "r", steps)
    with Neo4jSink(
        *address(clean_store)
    ) as sink:  # another step under a number that is taken: its new paths stay behind
        sink.write(step_trace("r", 2, seed=9, **BOTH))
    used = ask(driver, "MATCH (p:Path) WHERE EXISTS { (p)<-[:FOLLOWS]-() } RETURN count(p)")[0]
    before = census(driver)
    assert before["Path"] > used
    waiting = prune(driver, PrunePolicy(keep_last=4))
    assert waiting.busy and (waiting.paths, waiting.routes) == (0, 0) and census(driver) == before
    ask(driver, "MATCH (r:Run) SET r.updated = datetime() - duration({minutes: 11})")
    done = prune(driver, PrunePolicy(keep_last=4))
    assert not done.busy and done.steps == {} and done.paths == before["Path"] - used and done.routes > 0
    assert_whole(driver, "r", steps)
    assert_true(driver, "r", steps)
    kept = prune(driver, PrunePolicy(runs=("r",)))
    assert not kept.busy
    assert kept.steps == {"r": 4} and (kept.paths, kept.routes) == (0, 0)  # the run still followed and took them
    assert census(driver)["Path"] == used


def test_it_may_run_while_steps_are_written(clean_store: ServerInfo, driver: Driver) -> None:
    steps = steps_of("r", 30)
    store(clean_store, "r", steps[:1], None)
    over = threading.Event()

    def prune_on() -> None:
        while not over.is_set():
            prune(driver, PrunePolicy(runs=("r",), keep_last=1))

    pruner = threading.Thread(target=prune_on)
    pruner.start()
    try:
        store(clean_store, "r", steps)
    finally:
        over.set()
        pruner.join()
    assert ask(driver, "MATCH (s:Step) RETURN s.step ORDER BY s.step") == list(range(30))
    assert_true(driver, "r", steps)


@pytest.mark.parametrize("given", [{}, {"keep_last": -1}, {"keep_every": 0}, {"older_than": float("nan")}])
def test_senseless_policies_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"Nothing says what to prune|must be"):
        PrunePolicy(**given)


def test_the_command_says_what_it_did(clean_store: ServerInfo, driver: Driver) -> None:
    store(clean_store, "r", steps_of("r", 4))
    env = environment(
        GRADTRACE_NEO4J_URI=clean_store.uri,
        GRADTRACE_NEO4J_USER=clean_store.user,
        GRADTRACE_NEO4J_PASSWORD=clean_store.password,
    )
    asked = ("db", "prune", "--run", "r", "--keep-last", "1", "--format", "json")
    for more, verb, left in ((("--dry-run",), "Would drop", 4), ((), "Dropped", 1)):
        done = gradtrace(*asked, *more, env=env)
        assert json.loads(ok(done)) == [{"run": "r", "steps": 3}]
        assert f"{verb} the detail of 3 steps of 1 runs: 12 traces with" in done.stderr
        assert len(ask(driver, DETAILED, run="r")) == left
    assert "Nothing says what to prune" in refused(gradtrace("db", "prune", env=env), 2)
    assert "holds no run 'nope'" in refused(gradtrace("db", "prune", "--run", "nope", env=env), 1)
