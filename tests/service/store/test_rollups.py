"""Rollups: kept equals what the steps add up to, and a rebuild changes nothing."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from neo4j import Driver

from gradtrace.queries.schema.migrations import packaged_migrations
from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink, check_rollups, rebuild_rollups
from gradtrace.service.store.keys import route_hash
from gradtrace.tracer.errors import StoreError
from gradtrace.tracer.steptrace import StepTrace
from tests.service.store.readback import address, ask
from tests.synthetic import run_record, step_trace

BOTH = {"modes": ("greedy", "maxprod"), "batches": ("training", "probe")}
Rows = dict[tuple[Any, ...], dict[str, Any]]


def held(driver: Driver, run: str) -> tuple[Rows, Rows, Rows, Rows, list[Any]]:
    """The rollups of a run: paths, routes, shares, epochs by what they are of, and the run's own numbers."""
    follows = ask(
        driver,
        "MATCH (:Run {id: $run})-[f:FOLLOWS]->(p:Path)-[:ON]->(g) RETURN properties(f), g.fingerprint, p.vertices",
        run=run,
    )
    took = ask(driver, "MATCH (:Run {id: $run})-[t:TOOK]->(r:Route) RETURN properties(t), r.hash", run=run)
    shares = ask(driver, "MATCH (:Run {id: $run})-[e:EPOCH_SHARE]->(c) RETURN properties(e), c.path", run=run)
    epochs = ask(
        driver, "MATCH (:Run {id: $run})-[:HAS_EPOCH]->(e)-[:ON]->(g) RETURN properties(e), g.fingerprint", run=run
    )
    return (
        {(f.pop("mode"), f.pop("batch"), f.pop("parameter"), g, tuple(v)): f for f, g, v in follows},
        {(t.pop("mode"), t.pop("batch"), t.pop("epoch"), t.pop("parameter"), r): t for t, r in took},
        {(e.pop("mode"), e.pop("batch"), e.pop("epoch"), c): e for e, c in shares},
        {(e.pop("mode"), e.pop("batch"), e.pop("epoch"), e.pop("graph"), g): e for e, g in epochs},
        ask(driver, "MATCH (r:Run {id: $run}) RETURN r.steps, r.first_step, r.last_step", run=run)[0],
    )


def clean(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def expected(steps: list[StepTrace]) -> tuple[Rows, Rows, Rows, Rows]:
    """The same, added up here one by one."""
    follows: Rows = defaultdict(lambda: {"steps": 0, "mass": 0.0, "at": []})
    took: Rows = defaultdict(lambda: {"steps": 0, "mass": 0.0, "traffic": 0, "ranks": [], "at": []})
    shares: Rows = defaultdict(lambda: defaultdict(float))
    epochs: Rows = defaultdict(lambda: {"steps": 0, "losses": [], "at": [], "non_finite": 0})
    for s in steps:
        for t in s.traces:
            total = sum(p.mass for p in t.parameters)
            for p in t.parameters:
                if p.strongest is not None:
                    key = (t.mode, t.batch, p.parameter, t.graph.fingerprint, p.strongest.vertices)
                    follows[key]["steps"] += 1
                    follows[key]["mass"] += p.strongest.mass
                    follows[key]["at"].append(s.step)
            for r in t.routes:
                row = took[t.mode, t.batch, s.epoch, r.parameter, route_hash(r.route)]
                row["steps"] += 1
                row["mass"] += r.mass
                row["traffic"] += r.traffic
                row["ranks"].append(r.rank)
                row["at"].append(s.step)
            for c in t.components:
                row = shares[t.mode, t.batch, s.epoch, c.component]
                for name in ("share", "mass", "traffic", "visits", "own", "foreign", "contested", "won", "flow"):
                    row[name] += clean(getattr(c, name))
                row["total"] += total
                row["steps"] += 1
            e = epochs[t.mode, t.batch, s.epoch, t.graph.fingerprint, t.graph.fingerprint]
            e["steps"] += 1
            e["non_finite"] += t.non_finite
            e["at"].append(s.step)
            if math.isfinite(t.loss):
                e["losses"].append(t.loss)
            for name in ("flow", "peak", "traffic", "mass"):
                values = np.nan_to_num(getattr(t, name).astype(float), nan=0.0, posinf=0.0, neginf=0.0)
                before = e.get(name, np.zeros_like(values))
                e[name] = np.maximum(before, values) if name == "peak" else before + values
    return follows, took, shares, epochs


def assert_true(driver: Driver, run: str, steps: list[StepTrace]) -> None:
    """What is kept for the run is what `steps` add up to."""
    follows, routes, shares, epochs, own = held(driver, run)
    f, r, s, e = expected(steps)
    numbers = [step.step for step in steps]
    assert own == [len(steps), min(numbers), max(numbers)]
    assert set(follows) == set(f) and set(routes) == set(r) and set(shares) == set(s) and set(epochs) == set(e)
    for key, row in follows.items():
        assert (row["steps"], row["first"], row["last"]) == (f[key]["steps"], min(f[key]["at"]), max(f[key]["at"]))
        assert row["mass"] == pytest.approx(f[key]["mass"], rel=1e-12)
    for key, row in routes.items():
        want = r[key]
        assert (row["steps"], row["first"], row["last"]) == (want["steps"], min(want["at"]), max(want["at"]))
        assert (row["traffic"], row["rank"]) == (want["traffic"], min(want["ranks"]))
        assert row["mass"] == pytest.approx(want["mass"], rel=1e-12)
    for key, row in shares.items():
        n = s[key]["steps"]
        assert row["steps"] == n
        for name in ("mass", "total", "traffic", "own", "foreign", "contested", "won", "flow"):
            assert row[name] == pytest.approx(s[key][name], rel=1e-9, abs=1e-12), (key, name)
        for name in ("share", "visits"):
            assert row[name] == pytest.approx(s[key][name] / n, rel=1e-9, abs=1e-12), (key, name)
    for key, row in epochs.items():
        want = e[key]
        assert (row["steps"], row["non_finite"], row["finite_losses"]) == (
            want["steps"],
            want["non_finite"],
            len(want["losses"]),
        )
        assert (row["first"], row["last"]) == (min(want["at"]), max(want["at"]))
        loss = sum(want["losses"]) / len(want["losses"]) if want["losses"] else math.nan
        assert row["loss"] == pytest.approx(loss, rel=1e-12, nan_ok=True)
        for name in ("flow", "peak", "traffic", "mass"):
            np.testing.assert_allclose(np.array(row[name], float), want[name], rtol=1e-12)
        _assert_arranged(row, {c: r for (*head, c), r in s.items() if head == [*key[:3]]}, steps)


def _assert_arranged(row: dict[str, Any], shares: dict[str, dict[str, float]], steps: list[StepTrace]) -> None:
    """The arrays of an epoch are the shares of its innermost components."""
    listed = {c for step in steps for t in step.traces for c in t.graph.components}
    innermost = sorted(c.path for c in listed if c.depth > 0 and c.path not in {x.parent for x in listed})
    assert row["components"] == [c for c in innermost if c in shares]
    for n, name in enumerate(row["components"]):
        sums = shares[name]
        assert row["shares"][n] == pytest.approx(sums["mass"] / sums["total"], rel=1e-9, abs=1e-12)
        assert row["foreign_shares"][n] == pytest.approx(sums["foreign"] / sums["total"], rel=1e-9, abs=1e-12)
        assert (row["won"][n], row["contested"][n]) == (sums["won"], sums["contested"])


def write(server: ServerInfo, steps: list[StepTrace], batch_steps: int) -> None:
    with Neo4jSink(*address(server), batch_steps=batch_steps) as sink:
        sink.open_run(run_record("r"))
        for step in steps:
            sink.write(step)


@pytest.mark.parametrize("batch_steps", [1, 4, 50])
def test_kept_is_true_and_rebuilt_equals_kept(clean_store: ServerInfo, driver: Driver, batch_steps: int) -> None:
    steps = [step_trace("r", n, epoch=n // 6, novelty=0.3, **BOTH) for n in range(15)]
    write(clean_store, steps[7:], batch_steps)
    write(clean_store, steps[:9], batch_steps)  # out of order, and two of them a second time
    assert_true(driver, "r", steps)
    before = held(driver, "r")
    found = check_rollups(driver, "r", rebuild=True)
    assert (found.state, found.wrong, found.steps, found.pruned) == ("true", 0, 15, 0), found.examples
    assert held(driver, "r") == before  # what is true is not written again
    rebuild_rollups(driver, "r")
    assert_true(driver, "r", steps)
    after = held(driver, "r")
    assert [set(part) for part in before[:-1]] == [set(part) for part in after[:-1]] and before[-1] == after[-1]
    for kept, rebuilt in zip(before[:-1], after[:-1], strict=True):
        assert all(set(kept[key]) == set(rebuilt[key]) for key in kept)  # the same columns
    for part in (0, 2, 3):  # what a run took has no key
        assert all(before[part][key]["key"] == after[part][key]["key"] for key in before[part])
    assert ask(driver, "MATCH ()-[t:TOOK]->() RETURN count(t)") == [len(before[1])]  # and each of it is there once


def test_tampering_is_found_and_repaired(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", n, novelty=0.3) for n in range(4)]
    write(clean_store, steps, 10)
    for damage, wrong, words in (
        ("MATCH ()-[f:FOLLOWS]->() WITH f LIMIT 2 DELETE f", 2, "^path followed greedy/training/.* is missing$"),
        (
            "MATCH ()-[t:TOOK]->() WITH t LIMIT 2 SET t.traffic = t.traffic + 1",
            2,
            "^route taken .*: traffic .* is true$",
        ),
        ("MATCH ()-[e:EPOCH_SHARE]->() WHERE e.won > 0 WITH e LIMIT 1 SET e.won = e.won + 1", 1, "^share .*: won "),
        ("MATCH (e:Epoch) SET e.flow = [x IN e.flow | x * 1.0001]", 1, "^epoch 0/greedy/training/.*: flow of"),
        ("MATCH (e:Epoch) SET e.shares = e.shares[1..] + [0.5]", 1, "^epoch 0/greedy/training: its components' shares"),
        (
            "MATCH (e:Epoch) SET e.contested = [x IN e.contested | x + 1]",
            1,
            "^epoch 0/greedy/training: its components' shares",
        ),
        ("MATCH (r:Run) SET r.steps = 77", 1, "^the run's steps: 77 is kept, 4 is true$"),
        (
            "MATCH (r:Run)-[x:TOOK]->(n) WITH * LIMIT 1 SET x.parameter = 'none'",
            2,
            "is kept, and no step has it|is missing",
        ),
    ):
        ask(driver, damage)
        with pytest.raises(AssertionError):
            assert_true(driver, "r", steps)
        found = check_rollups(driver, "r")
        assert (found.state, found.wrong) == ("wrong", wrong), (damage, found.examples)
        assert re.search(words, found.examples[0]), found.examples
        with pytest.raises(AssertionError):
            assert_true(driver, "r", steps)  # looking changes nothing
        assert check_rollups(driver, "r", rebuild=True).state == "rebuilt"
        assert_true(driver, "r", steps)
        assert check_rollups(driver, "r").state == "true"
    write(clean_store, [step_trace("r", 9, novelty=0.3)], 10)  # and it goes on from there
    assert_true(driver, "r", [*steps, step_trace("r", 9, novelty=0.3)])


def test_a_migration_arranges_the_shares_of_epochs_that_earlier_versions_wrote(
    clean_store: ServerInfo, driver: Driver
) -> None:
    steps = [step_trace("r", n, epoch=n // 2, **BOTH) for n in range(4)]
    write(clean_store, steps, 10)
    before = held(driver, "r")
    ask(driver, "MATCH (e:Epoch) REMOVE e.components, e.shares, e.foreign_shares, e.won, e.contested")
    assert check_rollups(driver, "r").wrong == 8
    [migration] = [m for m in packaged_migrations() if m.name == "shares_of_epochs"]
    [statement] = migration.statements
    ask(driver, statement)
    assert held(driver, "r") == before


def test_other_runs_stay_as_they_are(clean_store: ServerInfo, driver: Driver) -> None:
    with Neo4jSink(*address(clean_store)) as sink:
        for run in ("a", "b"):
            sink.open_run(run_record(run))
            for n in range(3):
                sink.write(step_trace(run, n))
    before = held(driver, "b")
    ask(driver, "MATCH (:Run {id: 'a'})-[f:FOLLOWS]->() DELETE f")
    rebuild_rollups(driver, "a")
    assert held(driver, "b") == before
    assert_true(driver, "a", [step_trace("a", n) for n in range(3)])


def test_an_unknown_run_is_told(clean_store: ServerInfo, driver: Driver) -> None:
    with pytest.raises(StoreError, match="holds no run 'nobody'"):
        rebuild_rollups(driver, "nobody")
    with pytest.raises(StoreError, match="holds no run 'nobody'"):
        check_rollups(driver, "nobody")
