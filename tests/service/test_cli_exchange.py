"""`gradtrace db export` and `gradtrace db import`, as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx
from neo4j import Driver, GraphDatabase

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink
from gradtrace.tracer.steptrace import StepTrace
from tests.service.cli import environment, gradtrace, ok, refused
from tests.service.store.dump import empty
from tests.service.store.readback import address, assert_whole
from tests.synthetic import run_record, step_trace


def test_runs_go_out_and_come_in(clean_store: ServerInfo, tmp_path: Path) -> None:
    uri, user, password = address(clean_store)
    env = environment(GRADTRACE_NEO4J_URI=uri, GRADTRACE_NEO4J_USER=user, GRADTRACE_NEO4J_PASSWORD=password)
    steps = [step_trace("r-1", n) for n in range(3)]
    with Neo4jSink(uri, user, password) as sink:
        sink.open_run(run_record("r-1"))
        for step in steps:
            sink.write(step)
        sink.close_run("r-1", "FINISHED")
    out = gradtrace("db", "export", "r-1", "-o", "r-1", env=env, cwd=tmp_path)
    assert ok(out) == "" and out.stderr == "r-1: 3 of 3 steps\nWrote 3 traced steps of 1 run to r-1.\n"
    assert "is there already" in refused(gradtrace("db", "export", "r-1", "-o", "r-1", env=env, cwd=tmp_path), 4)
    graph = gradtrace("db", "export", "r-1", "-o", "s.graphml", "--step", "1", env=env, cwd=tmp_path)
    assert ok(graph) == "" and graph.stderr == "Wrote the graph of step 1 of run r-1 to s.graphml.\n"
    assert nx.read_graphml(tmp_path / "s.graphml").graph["step"] == 1
    with GraphDatabase.driver(uri, auth=(user, password)) as driver:
        _comes_in(driver, steps, env, tmp_path)


def _comes_in(driver: Driver, steps: list[StepTrace], env: dict[str, str], folder: Path) -> None:
    empty(driver)
    done = gradtrace("db", "import", "r-1", "--format", "json", env=env, cwd=folder)
    assert json.loads(ok(done)) == [{"run": "r-1", "steps": 3, "new": 3, "status": "FINISHED"}]
    assert done.stderr == "r-1: 3 of 3 steps\n3 traced steps of 1 run are new in the database.\n"
    assert_whole(driver, "r-1", steps)


def test_wrong_commands_say_what_is_right(tmp_path: Path) -> None:
    env = environment(GRADTRACE_DATA=str(tmp_path / "data"))  # none of these may start a server
    for words, status, said in (
        (("export", "a", "-o", "a.csv"), 2, "tells no format"),
        (("export", "a", "-o", "a.jsonl", "--step", "3"), 2, "--step goes with GraphML alone"),
        (("export", "a", "b", "-o", "a.graphml"), 2, "GraphML holds one step of one run"),
        (("import", "nothing.jsonl"), 4, "There is no nothing.jsonl"),
    ):
        assert said in refused(gradtrace("db", *words, env=env, cwd=tmp_path), status)
    assert list(tmp_path.iterdir()) == []
