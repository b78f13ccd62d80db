"""Migrations: applied once and in order, by any number of callers; stores that do not fit are refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from neo4j import Driver, GraphDatabase

from gradtrace.queries.schema import Migration, ensure_schema, packaged_migrations, schema_version
from gradtrace.service.local import ServerInfo
from gradtrace.service.store import rebuild_rollups
from gradtrace.service.store.keys import route_hash
from gradtrace.tracer.errors import StoreSchemaError
from gradtrace.tracer.steptrace import StepTrace
from tests.service.store.readback import ask
from tests.service.store.test_rollups import assert_true, write
from tests.synthetic import step_trace

LAST = len(packaged_migrations())


def test_an_empty_store_gets_the_schema_once(driver: Driver) -> None:
    assert schema_version(driver) == 0
    assert ensure_schema(driver) == schema_version(driver) == LAST
    names = ask(driver, "SHOW CONSTRAINTS YIELD name RETURN name ORDER BY name")
    rows = ask(driver, "MATCH (m:Migration) RETURN m.number, m.name, m.checksum, m.applied ORDER BY m.number")
    assert [row[:3] for row in rows] == [[m.number, m.name, m.checksum] for m in packaged_migrations()]
    assert ensure_schema(driver) == LAST
    again = ask(driver, "MATCH (m:Migration) RETURN m.number, m.name, m.checksum, m.applied ORDER BY m.number")
    assert again == rows
    assert ask(driver, "SHOW CONSTRAINTS YIELD name RETURN name ORDER BY name") == names


def test_every_key_is_unique_and_every_index_is_online(driver: Driver) -> None:
    ensure_schema(driver)
    unique = ask(
        driver, "SHOW CONSTRAINTS YIELD labelsOrTypes, properties RETURN labelsOrTypes[0] + '.' + properties[0]"
    )
    assert set(unique) == {
        *("Migration.number", "Architecture.hash", "Component.key", "Graph.fingerprint", "Vertex.key", "Path.hash"),
        *("Route.hash", "Experiment.name", "Run.id", "Step.key", "Trace.key", "Epoch.key"),
        *("ScalarGraph.key", "Scalar.key"),
        *("FOLLOWS.key", "EPOCH_SHARE.key"),
    }
    indexes = ask(
        driver,
        "SHOW INDEXES YIELD labelsOrTypes, properties, state, owningConstraint, type "
        "WHERE owningConstraint IS NULL AND type <> 'LOOKUP' RETURN labelsOrTypes[0], properties, state",
    )
    assert ["Step", ["run", "step"], "ONLINE"] in indexes
    assert all(state == "ONLINE" for _, _, state in indexes)


def test_many_callers_at_once(clean_store: ServerInfo, driver: Driver) -> None:
    def apply(_: int) -> int:
        with GraphDatabase.driver(clean_store.uri, auth=(clean_store.user, clean_store.password)) as own:
            return ensure_schema(own)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(apply, range(6))) == [LAST] * 6
    assert ask(driver, "MATCH (m:Migration) RETURN m.number ORDER BY m.number") == list(range(1, LAST + 1))


def test_the_claim_of_a_caller_that_died_runs_out(driver: Driver) -> None:
    ask(driver, "CREATE (:Migration {number: 0, token: 'dead', until: timestamp() + 1500})")
    assert ensure_schema(driver) == LAST  # waits for it, or goes by when it has run out
    assert ask(driver, "MATCH (m:Migration) RETURN m.number ORDER BY m.number") == list(range(1, LAST + 1))


def test_data_migrations_run_once_with_their_record(clean_store: ServerInfo, driver: Driver) -> None:
    count = Migration(LAST + 1, "count", "// counts\nCREATE (:Run {id: 'a'});\nMATCH (r:Run) SET r.n = 1;\n")
    wanted = [*packaged_migrations(), count]

    def apply(_: int) -> int:
        with GraphDatabase.driver(clean_store.uri, auth=(clean_store.user, clean_store.password)) as own:
            return ensure_schema(own, migrations=wanted)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(apply, range(4))) == [LAST + 1] * 4
    assert ask(driver, "MATCH (r:Run) RETURN r.n") == [1]


def test_a_migration_that_fails_leaves_no_record(driver: Driver) -> None:
    bad = Migration(LAST + 1, "bad", "CREATE (:Run {id: 'b'});\nRETURN 1 / 0;\n")
    with pytest.raises(Exception, match="by zero"):
        ensure_schema(driver, migrations=[*packaged_migrations(), bad])
    assert schema_version(driver) == LAST
    assert ask(driver, "MATCH (r:Run) RETURN count(r)") == [0]


def test_steps_stored_before_the_routes_were_summed_are_summed(clean_store: ServerInfo, driver: Driver) -> None:
    steps = [step_trace("r", n, epoch=n // 3, modes=("greedy", "maxprod"), novelty=0.3) for n in range(7)]
    write(clean_store, steps[:5], 10)
    ask(driver, "MATCH ()-[t:TOOK]->() DELETE t")
    ask(driver, "MATCH (m:Migration) WHERE m.number >= 3 DELETE m")  # as a store of schema 2 was
    assert ensure_schema(driver) == LAST
    assert summed(ask(driver, TOOK)) == summed(took(steps[:5]))
    write(clean_store, steps[5:], 10)
    assert summed(ask(driver, TOOK)) == summed(took(steps))
    rebuild_rollups(driver, "r")
    assert_true(driver, "r", steps)


TOOK = "MATCH (:Run)-[t:TOOK]->(r) RETURN t.mode, t.epoch, t.parameter, r.hash, t.steps, t.traffic, t.mass, t.rank"


def took(steps: list[StepTrace]) -> list[list[Any]]:
    return [
        [t.mode, s.epoch, r.parameter, route_hash(r.route), 1, r.traffic, r.mass, r.rank]
        for s in steps
        for t in s.traces
        for r in t.routes
    ]


def summed(rows: list[list[Any]]) -> dict[tuple[Any, ...], list[Any]]:
    made: dict[tuple[Any, ...], list[Any]] = {}
    for *key, steps, traffic, mass, rank in rows:
        held = made.setdefault(tuple(key), [0, 0, 0.0, rank])
        made[tuple(key)] = [held[0] + steps, held[1] + traffic, held[2] + mass, min(held[3], rank)]
    return {key: [n, traffic, pytest.approx(mass, rel=1e-9), rank] for key, (n, traffic, mass, rank) in made.items()}


@pytest.mark.parametrize(
    "change,message",
    [
        ("MATCH (m:Migration {number: 1}) SET m.checksum = 'f00'", "Migration 1 .* one of the two was changed"),
        ("MATCH (m:Migration {number: 1}) DELETE m", r"gap: \[1\]"),
        ("CREATE (:Migration {number: 99, name: 'x', checksum: 'y'})", "has schema 99.*Upgrade gradtrace"),
    ],
)
def test_stores_that_do_not_fit_are_refused(driver: Driver, change: str, message: str) -> None:
    ensure_schema(driver)
    ask(driver, change)
    with pytest.raises(StoreSchemaError, match=message):
        ensure_schema(driver)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "// nothing\n",
        "CREATE CONSTRAINT a FOR (n:A) REQUIRE n.a IS UNIQUE;\n",
        "CREATE INDEX a IF NOT EXISTS FOR (n:A) ON (n.a);\nMATCH (n) SET n.a = 1;\n",
    ],
)
def test_malformed_migrations_are_refused_before_anything_is_written(driver: Driver, text: str) -> None:
    with pytest.raises(StoreSchemaError, match="must hold either"):
        ensure_schema(driver, migrations=[*packaged_migrations(), Migration(LAST + 1, "odd", text)])
    assert schema_version(driver) == 0


def test_line_ends_do_not_change_a_checksum() -> None:
    text = packaged_migrations()[0].text
    assert Migration(1, "keys", text.replace("\n", "\r\n")).checksum == packaged_migrations()[0].checksum
    assert Migration(1, "keys", text + ";RETURN 1;").checksum != packaged_migrations()[0].checksum
