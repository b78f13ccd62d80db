"""Steps spelt out as relationships, and taken back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from neo4j import Driver

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink, PrunePolicy, prune
from gradtrace.service.store.expand import collapse, expand
from gradtrace.tracer.errors import StoreError
from tests.service.store.readback import address, ask, assert_whole, census
from tests.synthetic import run_record, step_trace

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"


def test_a_step_is_spelt_out_and_taken_back(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", n, modes=("greedy", "maxprod"), batches=("training", "probe")) for n in (1, 2)]
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(run_record("r"))
        for step in steps:
            sink.write(step)
    before = census(driver)
    edges = sum(len(t.graph.edges) for t in steps[0].traces)
    assert expand(driver, "r", 1) == edges
    assert expand(driver, "r", 1) == 0  # it is so already
    assert census(driver) == {**before, "WEIGHED": edges}
    for t in steps[0].traces:
        rows = ask(
            driver,
            "MATCH (a)-[w:WEIGHED {step: 1, run: 'r', mode: $mode, batch: $batch}]->(b) "
            "RETURN w.idx, a.idx, b.idx, w.slot, w.flow, w.peak, w.traffic, w.mass, w.dominant ORDER BY w.idx",
            mode=t.mode,
            batch=t.batch,
        )
        columns: tuple[Any, ...] = (t.flow, t.peak, t.traffic, t.mass, t.dominant)
        want = [[e.idx, e.source, e.target, e.slot, *(c[e.idx].item() for c in columns)] for e in t.graph.edges]
        assert rows == want
    (example,) = re.findall(r"```cypher\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    rows = ask(driver, example, run="r", step=1)
    greedy = next(t for t in steps[0].traces if (t.mode, t.batch) == ("greedy", "training"))
    assert [r[3] for r in rows] == sorted((m for m in greedy.mass.tolist() if m > 0), reverse=True)
    assert expand(driver, "r", 2) == edges
    assert collapse(driver, "r", 1) == edges and collapse(driver, "r", 1) == 0
    assert census(driver)["WEIGHED"] == edges  # those of the other step
    done = prune(driver, PrunePolicy(runs=("r",), keep_last=0))
    assert done.steps == {"r": 2} and "WEIGHED" not in census(driver)
    with pytest.raises(StoreError, match="was pruned"):
        expand(driver, "r", 2)


def test_an_undone_expansion_leaves_the_store_as_it_was(clean_store: ServerInfo, driver: Driver) -> None:
    step = step_trace("r", 1)
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(run_record("r"))
        sink.write(step)
    expand(driver, "r", 1)
    collapse(driver, "r", 1)
    assert_whole(driver, "r", [step])
    assert ask(driver, "MATCH (s:Step) RETURN s.expanded") == [None]
    with pytest.raises(StoreError, match=r"no step 7 of run 'r'. The nearest that it has: 1\."):
        expand(driver, "r", 7)
    with pytest.raises(StoreError, match="It has none"):
        collapse(driver, "nobody", 7)
