"""What comes out of a store: steps as they were written, tables, lines and graphs. The store is filled once and only read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pyarrow.parquet as pq
import pytest
from neo4j import Driver

from gradtrace.service.exchange.leaving import export_graph, export_runs
from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Store
from gradtrace.service.store.connect import open_store
from gradtrace.service.store.read import read_steps
from gradtrace.tracer.errors import ExchangeError
from gradtrace.tracer.sinks import read_jsonl
from tests.same import same
from tests.service.store.dump import empty_wholly
from tests.service.store.exchanging import PLAIN, RICH, VERTICES, fill_store, rich_steps
from tests.service.store.readback import address, arranged, as_stored, ask


@pytest.fixture(scope="module")
def store(neo4j_server: ServerInfo) -> Iterator[Store]:
    empty_wholly(neo4j_server)
    fill_store(neo4j_server)
    with open_store(*address(neo4j_server)) as store:
        yield store


@pytest.fixture
def driver(store: Store) -> Driver:
    return store.driver


def test_steps_come_back_as_they_were_written(store: Store) -> None:
    for found, sent in zip(read_steps(store.driver, RICH), rich_steps(), strict=True):
        assert same(arranged(found), as_stored(sent)), sent.step


def test_a_graph_goes_out_with_the_numbers_of_the_store(store: Store, driver: Driver, tmp_path: Path) -> None:
    export_graph(store, RICH, tmp_path / "last.graphml")
    assert nx.read_graphml(tmp_path / "last.graphml").graph["step"] == 27
    export_graph(store, RICH, tmp_path / "one.graphml", step=6, mode="maxprod", batch="probe")
    graph = nx.read_graphml(tmp_path / "one.graphml", node_type=int)
    told = {name: graph.graph[name] for name in ("run", "step", "epoch", "mode", "batch", "name")}
    assert told == {"run": RICH, "step": 6, "epoch": 0, "mode": "maxprod", "batch": "probe", "name": "Größe Ω"}
    match = (
        "MATCH (:Step {run: $run, step: 6})-[:HAS_TRACE]->(t {mode: 'maxprod', batch: 'probe'})-[:ON]->(g)-[:HAS]->(a) "
    )
    vertices = ask(driver, match + "RETURN a.idx, a.kind, a.name, a.component", run=RICH)
    held = {at: (data["kind"], data["name"], data.get("component")) for at, data in graph.nodes(data=True)}
    assert held == {idx: tuple(rest) for idx, *rest in vertices} and len(held) == VERTICES
    edges = ask(
        driver,
        match + "MATCH (a)-[e:EDGE]->(b) RETURN a.idx, b.idx, e.slot, e.idx, t.flow[e.idx], t.peak[e.idx], "
        "t.traffic[e.idx], t.mass[e.idx], t.dominant[e.idx]",
        run=RICH,
    )
    names = ("slot", "idx", "flow", "peak", "traffic", "mass", "dominant")
    found = sorted(
        ((a, b, *(data[n] for n in names)) for a, b, data in graph.edges(data=True)), key=lambda edge: edge[3]
    )
    assert same(tuple(found), tuple(sorted(map(tuple, edges), key=lambda edge: edge[3])))
    text = (tmp_path / "one.graphml").read_text("utf-8")
    assert ">NaN<" in text and ">Infinity<" in text and ">inf<" not in text
    for options, said in (
        ({"step": 5}, r"no traced step 5; it has 5, near it 0, 3, 6, 13, 27"),
        (
            {"step": 6, "mode": "entropy"},
            r"no trace of entropy on the either batch; it has greedy on the training batch",
        ),
    ):
        with pytest.raises(ExchangeError, match=said):
            export_graph(store, RICH, tmp_path / "none.graphml", **options)
    with pytest.raises(ExchangeError, match="no traced step of a run 'nobody'"):
        export_graph(store, "nobody", tmp_path / "none.graphml")
    assert not (tmp_path / "none.graphml").exists()


def test_tables_can_be_read_by_others(store: Store, tmp_path: Path) -> None:
    folder = _exported(store, tmp_path / "out", RICH)
    steps = list(rich_steps())
    shares = pq.read_table(folder / "shares.parquet").to_pandas()
    assert len(shares) == sum(len(t.components) for s in steps for t in s.traces)
    head = shares[(shares.step == 6) & (shares.component == "head") & (shares["mode"] == "greedy")]
    wanted = {
        t.batch: c.share for t in steps[2].traces for c in t.components if (t.mode, c.component) == ("greedy", "head")
    }
    assert dict(zip(head.batch, head.share, strict=True)) == wanted
    traces = pq.read_table(folder / "traces.parquet").to_pandas()
    assert list(traces.flow[0]) == steps[0].traces[0].flow.tolist()
    (run,) = pq.read_table(folder / "runs.parquet").to_pylist()
    assert json.loads(run["parameters"])["huge"] == 2**70 and dict(run["held_out"])["loss"] == 0.25
    about = pq.read_schema(folder / "steps.parquet").metadata
    assert (about[b"gradtrace.format"], about[b"gradtrace.table"]) == (b"1", b"steps")


def test_lines_are_those_of_the_sink(store: Store, tmp_path: Path) -> None:
    recording = read_jsonl(_exported(store, tmp_path / "runs.jsonl", RICH, PLAIN))
    assert recording.statuses == {RICH: ("FINISHED", None), PLAIN: ("FAILED", "a line\nand another: ∞")}
    assert list(recording.held_out) == [RICH] and recording.held_out[RICH]["loss"] == 0.25
    assert [s.step for s in recording.of(RICH)] == [0, 3, 6, 13, 27]


def _exported(store: Store, target: Path, *runs: str) -> Path:
    export_runs(store, runs, target)
    return target
