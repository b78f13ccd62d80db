"""Runs between stores: out into a file, and in again, the same run with all that hangs on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from neo4j import Driver

from gradtrace.service.exchange.coming import Imported, import_runs, open_source
from gradtrace.service.exchange.leaving import export_graph, export_runs
from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink, PrunePolicy, Store, check_rollups, prune
from gradtrace.service.store.connect import open_store
from gradtrace.tracer.errors import ExchangeError, StoreError, StoreIntegrityError
from tests.service.store.dump import differences, dump, empty
from tests.service.store.exchanging import PLAIN, RICH, fill_store
from tests.service.store.readback import address, ask, census
from tests.synthetic import run_record, step_trace

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(clean_store: ServerInfo) -> Iterator[Store]:
    with open_store(*address(clean_store)) as store:
        yield store


def test_a_store_comes_back_whole(store: Store, clean_store: ServerInfo, driver: Driver, tmp_path: Path) -> None:
    fill_store(clean_store)
    before = dump(driver)
    assert {"Scalar", "Epoch", "Path", "Route", "NEXT", "SPREAD_IN", "TOOK"} <= census(driver).keys()
    parquet, lines = tmp_path / "both runs", tmp_path / "runs.jsonl"
    export_runs(store, [RICH, PLAIN], parquet)
    assert [run.record.id for run in export_runs(store, [PLAIN, RICH, PLAIN], lines)] == [PLAIN, RICH]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both runs", "runs.jsonl"]
    expected = [Imported(RICH, 5, 5, "FINISHED"), Imported(PLAIN, 4, 4, "FAILED")]
    for path, order in ((parquet, expected), (lines, expected[::-1])):
        empty(driver)
        told: list[tuple[str, int, int]] = []
        done = import_runs(store, open_source(path), tell=lambda *now, told=told: told.append(now))
        assert done == order
        assert len(told) == 9 and (RICH, 5, 5) in told and (PLAIN, 4, 4) in told
        assert differences(dump(driver), before) == []
    after = dump(driver)
    again = import_runs(store, open_source(parquet))  # the other file, into a store that has it all
    assert again == [Imported(RICH, 5, 0, "FINISHED"), Imported(PLAIN, 4, 0, "FAILED")]
    assert dump(driver) == after or differences(dump(driver), after) == []
    assert check_rollups(driver, RICH).state == check_rollups(driver, PLAIN).state == "true"


def test_an_import_goes_on_after_a_kill(store: Store, clean_store: ServerInfo, driver: Driver, tmp_path: Path) -> None:
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(run_record("long"))
        for number in range(60):
            sink.write(step_trace("long", number, vertices=20, epoch=number // 20, novelty=0.2))
        sink.close_run("long", "INTERRUPTED", "asked to stop")
    before = dump(driver)
    export_runs(store, ["long"], tmp_path / "long")
    empty(driver)
    known = {"STORE_URI": clean_store.uri, "STORE_USER": clean_store.user, "STORE_PASSWORD": clean_store.password}
    command = [sys.executable, "-m", "tests.service.store.importing", str(tmp_path / "long"), "40"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | known, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "sent\n"
        until = time.monotonic() + 120
        while not ask(driver, "MATCH (s:Step) RETURN s.step LIMIT 1") and time.monotonic() < until:
            time.sleep(0.1)
        process.kill()
    (held,) = ask(driver, "MATCH (s:Step) RETURN count(s)")
    assert 0 < held <= 40 and ask(driver, "MATCH (r:Run) RETURN r.status") == ["RUNNING"]
    (done,) = import_runs(store, open_source(tmp_path / "long"))
    assert (done.steps, done.status) == (60, "INTERRUPTED") and 20 <= done.new < 60
    assert differences(dump(driver), before) == []


def test_what_cannot_go_out_is_refused(store: Store, clean_store: ServerInfo, driver: Driver, tmp_path: Path) -> None:
    with Neo4jSink(*address(clean_store)) as sink:
        for run in ("open", "pruned", "good"):
            sink.open_run(run_record(run))
            for number in range(3):
                sink.write(step_trace(run, number, vertices=20))
            sink.flush()
        sink.close_run("pruned", "FINISHED")
        sink.close_run("good", "FINISHED")
    prune(driver, PrunePolicy(("pruned",), (), None, 1, None))
    for run, said in (
        ("open", r"is RUNNING, so it is not whole yet.*gradtrace cancel open"),
        ("pruned", r"2 of the 3 traced steps of run 'pruned' were pruned"),
        ("none", r"no run 'none'; it holds .*good"),
    ):
        with pytest.raises(StoreError, match=said):
            export_runs(store, ["good", run], tmp_path / "out")
    (tmp_path / "there").write_text("mine")
    with pytest.raises(ExchangeError, match="is there already"):
        export_runs(store, ["good"], tmp_path / "there")
    with pytest.raises(ExchangeError, match="There is no folder"):
        export_runs(store, ["good"], tmp_path / "a" / "b.jsonl")
    with pytest.raises(StoreError, match=r"Step 0 of run 'pruned' has no traces"):
        export_graph(store, "pruned", tmp_path / "x.graphml", step=0)
    ask(driver, "MATCH (v:Vertex {idx: 3}) SET v.op = 'Changed'")
    with pytest.raises(StoreIntegrityError, match="whose fingerprint is"):
        export_runs(store, ["good"], tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "mine"


def test_another_run_of_the_same_id_is_refused(
    store: Store, clean_store: ServerInfo, driver: Driver, tmp_path: Path
) -> None:
    with Neo4jSink(*address(clean_store)) as sink:
        for run in ("a", "b"):
            sink.open_run(run_record(run))
            for number in range(3):
                sink.write(step_trace(run, number, vertices=20))
            sink.close_run(run, "FINISHED")
    source = open_source(_exported(store, tmp_path / "two", "a", "b"))
    for change, said in (
        (
            "MATCH (r:Run {id: 'b'}) SET r.workload = 'other'",
            "workload is 'synthetic' in the file and 'other' in the store",
        ),
        (
            "MATCH (r:Run {id: 'b'}) SET r.workload = 'synthetic', r.parameters = '{\"lr\": 1.0, \"seed\": 0}'",
            "the hyperparameter lr is 0.1 in the file and 1.0 in the store",
        ),
        (
            "MATCH (s:Step {key: 'b:1'}) SET s.loss = 7.5",
            "step 1 has epoch 0 and loss .* in the file, and epoch 0 and loss 7.5",
        ),
        (
            "MATCH (r:Run {id: 'b'}) SET r.holder = '{}', r.status = 'RUNNING'",
            "is RUNNING in the store, and a worker has it",
        ),
    ):
        saved = ask(driver, "MATCH (r:Run {id: 'b'}) RETURN properties(r), 0")[0][0]
        ask(driver, change)
        ask(driver, "MATCH (s:Step {run: 'a'}) DETACH DELETE s")  # so that there is something to write
        before = census(driver)
        with pytest.raises(ExchangeError, match=said):
            import_runs(store, source)
        assert census(driver) == before
        ask(driver, "MATCH (r:Run {id: 'b'}) SET r = $saved", saved=saved)
        ask(driver, "MATCH (s:Step {key: 'b:1'}) SET s.loss = $loss", loss=step_trace("b", 1, vertices=20).loss)


def test_a_run_that_went_on_is_not_set_back(
    store: Store, clean_store: ServerInfo, driver: Driver, tmp_path: Path
) -> None:
    with Neo4jSink(*address(clean_store)) as sink:
        sink.open_run(run_record("r"))
        sink.write(step_trace("r", 0, vertices=20))
        sink.close_run("r", "INTERRUPTED", "stopped")
        early = _exported(store, tmp_path / "early.jsonl", "r")
        sink.write(step_trace("r", 1, vertices=20))
        sink.close_run("r", "FINISHED")
    late = _exported(store, tmp_path / "late.jsonl", "r")
    assert import_runs(store, open_source(early)) == [Imported("r", 1, 0, "FINISHED")]
    assert ask(driver, "MATCH (r:Run) RETURN r.status") == ["FINISHED"]
    empty(driver)
    assert import_runs(store, open_source(early)) == [Imported("r", 1, 1, "INTERRUPTED")]
    assert import_runs(store, open_source(late)) == [Imported("r", 2, 1, "FINISHED")]
    assert ask(driver, "MATCH (r:Run) RETURN r.status, r.reason, r.steps") == [["FINISHED", None, 2]]


def _exported(store: Store, target: Path, *runs: str) -> Path:
    export_runs(store, runs, target)
    return target
