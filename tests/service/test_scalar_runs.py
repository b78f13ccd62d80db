"""Runs at scalar granularity, by every way that leads into a sink; and the budget, told before anything is written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from neo4j import Driver, GraphDatabase

from gradtrace.service.checkpoint import spec_digest
from gradtrace.service.jobs.limits import Limits
from gradtrace.service.jobs.work import Office, work
from gradtrace.service.local import ServerInfo
from gradtrace.service.runner import RunHooks, run
from gradtrace.service.settings import Settings
from gradtrace.service.spec import FOLD_EDGES, GRAPH_BUDGET, RunSpec, spec_from_json, spec_from_text
from gradtrace.service.store import Neo4jSink, connect
from gradtrace.service.store.check_scalars import check_scalars
from gradtrace.service.store.jobs import Jobs, Ticket
from gradtrace.service.store.scalars import MOST
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.tracer import fold, scalargraph
from gradtrace.tracer.errors import BudgetError, SpecError
from gradtrace.tracer.sinks import JsonlSink, MemorySink, read_jsonl
from gradtrace.tracer.steptrace import RunRecord
from tests.same import plain, same
from tests.service.cli import environment, gradtrace, ok, refused

SMALL = {"hidden": "3", "layers": "1", "batch_size": "2", "steps": "3"}
SCALAR = ("--granularity", "scalar", *(f"--set={name}={value}" for name, value in SMALL.items()))


def spec(**more: object) -> RunSpec:
    return spec_from_text("digits-mlp", SMALL, every=2, batches="both", threads=1, granularity="scalar", **more)


@pytest.fixture
def driver(clean_store: ServerInfo) -> Iterator[Driver]:
    with GraphDatabase.driver(clean_store.uri, auth=(clean_store.user, clean_store.password)) as driver:
        yield driver


def held(driver: Driver) -> dict[str, int]:
    text = "MATCH (n) WHERE NOT n:Migration UNWIND labels(n) AS label RETURN label, count(*)"
    return dict(record.values() for record in driver.execute_query(text, database_="neo4j").records)


def test_every_traced_step_has_its_scalars_in_memory_in_a_file_and_in_the_store(
    clean_store: ServerInfo, driver: Driver, tmp_path: Path
) -> None:
    memory = MemorySink()
    run(spec(), memory, run_id="r")
    with JsonlSink(tmp_path / "steps.jsonl") as file:
        run(spec(), file, run_id="r")
    with Neo4jSink(clean_store.uri, clean_store.user, clean_store.password) as sink:
        run(spec(), sink, run_id="r")
    steps = plain(memory.steps.values())
    assert [s.step for s in steps] == [0, 2] and all(len(s.scalars) == 2 for s in steps)
    assert same(tuple(read_jsonl(file.path).of("r")), tuple(steps))
    counts = held(driver)
    assert counts["Scalar"] == sum(len(t.scalars.vertex) for s in steps for t in s.scalars)
    # The greatest weight of an edge on the path of the strongest scalar, step by step, read off real relationships.
    walk = """
    MATCH (:Step {run: 'r', step: $step})-[:HAS_SCALARS]->(:ScalarGraph {batch: 'training'})
          -[:HAS_SCALAR]->(p:Scalar {index: $scalar})-[:OF]->(:Parameter {name: $parameter})
    MATCH (p) (()-[n:NEXT {mode: 'greedy'}]->(x))+ ((:Scalar)-[:OF]->(:Vertex {kind: 'loss'}))
    RETURN [w IN n | w.weight] AS weights, [u IN x | u.gradient] AS gradients
    """
    for step in steps:
        trace = next(t for t in step.traces if t.batch == "training")
        for p in trace.parameters:
            assert p.strongest is not None
            which = {"step": step.step, "scalar": p.strongest.scalar, "parameter": p.parameter}
            (found,) = driver.execute_query(walk, which, database_="neo4j").records
            np.testing.assert_allclose(found["weights"], p.strongest.weight, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(found["gradients"], p.strongest.gradient, rtol=1e-5, atol=1e-9)


def test_looking_at_scalars_changes_no_weight() -> None:
    weights = []
    for granularity in ("operator", "scalar"):
        kept: list[WorkloadInstance] = []
        made = spec_from_text("digits-mlp", {**SMALL, "dropout": "0.5"}, every=1, threads=1, granularity=granularity)
        run(made, MemorySink(), hooks=RunHooks(on_start=lambda _, instance, __, kept=kept: kept.append(instance)))
        weights.append({k: v.clone() for k, v in kept[0].model.state_dict().items()})
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


def test_the_budget_is_told_before_anything_is_written(clean_store: ServerInfo, driver: Driver, tmp_path: Path) -> None:
    small = spec(graph_budget=500)
    said = r"beyond the budget of 500 vertices and edges\. Trace a smaller batch"
    memory = MemorySink()
    with JsonlSink(tmp_path / "steps.jsonl") as file:
        for sink in (memory, file):
            with pytest.raises(BudgetError, match=said):
                run(small, sink)
    assert memory.runs == memory.steps == {} and file.path.read_bytes() == b""
    with connect(clean_store.uri, clean_store.user, clean_store.password, "neo4j") as store:
        with Neo4jSink.on(store) as sink, pytest.raises(BudgetError, match=said):
            run(small, sink)
        assert held(driver) == {}
        # A worker finds it in the queue: the run is FAILED with these words, and has no step.
        tickets: list[Ticket] = []
        office = Office(store, Limits.of(Settings()), tmp_path, lambda t: bool(tickets.append(t)), lambda: False)
        record = RunRecord("queued", "digits-mlp", "default", small.record_parameters(), small.modes)
        assert work(Jobs(store).submit(record, small.model_dump_json()), office, time.monotonic()) == "FAILED"
        reason = "MATCH (r:Run) RETURN r.status, r.reason"
        (found,) = driver.execute_query(reason, database_="neo4j").records
        assert found[0] == "FAILED" and "beyond the budget of 500" in found[1]
        assert "Step" not in held(driver) and "Scalar" not in held(driver)
        good = spec()
        record = RunRecord("good", "digits-mlp", "default", good.record_parameters(), good.modes)
        assert work(Jobs(store).submit(record, good.model_dump_json()), office, time.monotonic()) == "FINISHED"
        assert held(driver)["Step"] == 2 and held(driver)["Scalar"] > 500


@pytest.mark.full
def test_the_commands(clean_store: ServerInfo, driver: Driver) -> None:
    env = environment(
        GRADTRACE_NEO4J_URI=clean_store.uri,
        GRADTRACE_NEO4J_USER=clean_store.user,
        GRADTRACE_NEO4J_PASSWORD=clean_store.password,
    )
    done = gradtrace("run", "digits-mlp", *SCALAR, "--graph-budget", "500", "--every", "1", env=env)
    assert "beyond the budget of 500 vertices and edges" in refused(done, 4)
    assert held(driver) == {}
    assert "is not one of" in refused(gradtrace("run", "--granularity", "atom", env=env), 2)
    ok(gradtrace("run", "digits-mlp", *SCALAR, "--every", "2", "--format", "json", env=env))
    [name] = driver.execute_query("MATCH (r:Run) RETURN r.id", database_="neo4j").records[0].values()
    assert check_scalars(driver, name).state == "true"
    driver.execute_query("MATCH (x:Scalar {idx: 1}) SET x.gradient = x.gradient + 1", database_="neo4j")
    found = gradtrace("db", "check", "--format", "json", env=env)
    [row] = json.loads(found.stdout)
    assert found.returncode == 1 and (row["rollups"], row["scalars"]) == ("true", "wrong")
    assert "scalar graphs of 1 of 1 runs are not what was written" in found.stderr and "Σ w·g" in row["example"]


def test_specs_say_how_fine_they_trace() -> None:
    made = spec_from_json(spec(graph_budget=70).model_dump_json())
    assert (made.granularity, made.graph_budget) == ("scalar", 70)
    for field, value in (("granularity", "atom"), ("graph_budget", 0), ("graph_budget", GRAPH_BUDGET + 1)):
        with pytest.raises(SpecError, match=field):
            spec_from_text("digits-mlp", {}, **{field: value})
    assert GRAPH_BUDGET == MOST == scalargraph.GRAPH_BUDGET and FOLD_EDGES == fold.FOLD_EDGES


OLDER = (
    '{"workload":"digits-mlp","parameters":{"seed":0,"epochs":5,"steps":7,"batch_size":32,"lr":0.5,"hidden":64,"layers":2,'
    '"dropout":0.0},"experiment":"default","every":3,"batches":"both","modes":["greedy"],"watch":["head.weight"],"blocked":[],'
    '"top_routes":20,"fold":"auto","fold_edges":2000,"non_finite":"continue","on_error":"raise","kernels":"native","threads":null}'
)
"""A spec as a version wrote it that knew no granularity, and the digest that stood in its checkpoints."""
OLD_DIGEST = "913a85e578f746541b0e1adda9b2374bc8e307d24121d823938df85bb623721f"


def test_checkpoints_of_a_version_without_these_fields_are_still_good() -> None:
    assert hashlib.sha256(OLDER.encode()).hexdigest() == OLD_DIGEST
    old = spec_from_json(OLDER)
    assert spec_digest(old) == OLD_DIGEST
    assert spec_digest(old.model_copy(update={"granularity": "scalar"})) != OLD_DIGEST
    assert spec_digest(old.model_copy(update={"graph_budget": 9})) != OLD_DIGEST
    assert spec_digest(old.model_copy(update={"fold": "never"})) != OLD_DIGEST
