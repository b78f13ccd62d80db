"""A long recurrence takes no more room in the store than a short one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from neo4j import Driver
from torch import nn

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink
from gradtrace.tracer import Tracer
from gradtrace.tracer.sinks import MemorySink
from gradtrace.tracer.steptrace import StepTrace
from tests.same import plain
from tests.service.store.readback import address, ask, assert_whole
from tests.synthetic import run_record


def traced(run: str, length: int) -> list[StepTrace]:
    """Three steps of an LSTM whose last output is read."""
    torch.manual_seed(0)
    model, sink = nn.LSTM(2, 3), MemorySink()
    x = torch.randn(length, 2, 2)
    tracer = Tracer(model, sink=sink, run=run, every=1)
    for _ in range(3):
        with tracer.step() as step:
            step.backward(model(x)[0][-1].square().sum())
    return plain(sink.steps.values())


def room(driver: Driver, run: str) -> tuple[int, int]:
    """Relationships of the last step's trace, and characters of all that the step and its trace hold."""
    rows: list[Any] = ask(
        driver,
        "MATCH (s:Step {run: $run, step: 2})-[:HAS_TRACE]->(t:Trace) "
        "RETURN properties(s), properties(t), COLLECT { MATCH (t)-[x]-(:!Step) RETURN properties(x) }, "
        "COLLECT { MATCH (t)-[:DOMINANT]->(p:Path) RETURN p.vertices }",
        run=run,
    )
    (row,) = rows
    return len(row[2]), len(json.dumps(row))


@pytest.mark.parametrize("length", [80, pytest.param(500, marks=pytest.mark.full)])
def test_a_step_takes_the_same_room_whatever_its_length(clean_store: ServerInfo, driver: Driver, length: int) -> None:
    found = {}
    for run, steps in (("short", 10), ("long", length)):
        with Neo4jSink(*address(clean_store), fold_edges=100) as sink:
            sink.open_run(run_record(run))
            for step in traced(run, steps):
                sink.write(step)
            sink.flush()
        found[run] = room(driver, run)
    # Equal but for the routes, of which both have some, 20 at most.
    assert all(long <= 1.05 * short for long, short in zip(found["long"], found["short"], strict=True))
    assert ask(driver, "MATCH (g:Graph) RETURN g.folded") == [True]  # one graph for both


def test_the_exact_graph_on_demand(clean_store: ServerInfo, driver: Driver) -> None:
    steps = traced("r", 12)
    with Neo4jSink(*address(clean_store), fold="never", fold_edges=0) as sink:
        sink.open_run(run_record("r"))
        for step in steps:
            sink.write(step)
    assert_whole(driver, "r", steps)
    assert ask(driver, "MATCH (g:Graph) RETURN g.folded") == [False]
