"""Statements of writers keep the plan that the server makes of them first, which may be while the store is empty."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from neo4j import Driver, ManagedTransaction, Result

from gradtrace.queries.plan import scans
from gradtrace.queries.schema.migrations import ensure_schema
from gradtrace.service.local import ServerInfo
from gradtrace.service.store.plans import KEEP_PLAN, run_planned
from gradtrace.service.store.runs import announce
from gradtrace.service.store.steps import write_steps
from gradtrace.service.store.structure import Known, write_structure
from tests.synthetic import run_record, step_trace


class Recording:
    """A transaction that keeps what is asked of it."""

    def __init__(self, tx: ManagedTransaction) -> None:
        self._tx = tx
        self.asked: dict[str, dict[str, Any]] = {}

    def run(self, statement: str, **parameters: Any) -> Result:
        if statement.startswith(KEEP_PLAN):
            self.asked.setdefault(statement.removeprefix(KEEP_PLAN), parameters)
        return self._tx.run(statement, **parameters)


def test_plans_made_on_an_empty_store_go_by_keys(clean_store: ServerInfo, driver: Driver) -> None:
    ensure_schema(driver)
    steps = [step_trace("r", n, seed=n, modes=("greedy", "maxprod"), spreads=("entropy",)) for n in range(2)]

    def write_and_forget(plain: ManagedTransaction) -> dict[str, dict[str, Any]]:
        recording = Recording(plain)
        tx = cast(ManagedTransaction, recording)
        announce(plain, run_record("r"))
        write_structure(tx, Known().missing(steps))
        assert write_steps(tx, steps).steps == 2
        return recording.asked

    with driver.session(database="neo4j") as session:
        transaction = session.begin_transaction()
        asked = write_and_forget(cast(ManagedTransaction, transaction))
        transaction.rollback()
        assert session.run("MATCH (n) WHERE NOT n:Migration RETURN count(n)").single(strict=True)[0] == 0
        assert len(asked) > 20
        for statement, parameters in asked.items():
            plan = session.run("EXPLAIN " + statement, **parameters).consume().plan
            assert plan is not None
            assert not scans(plan), statement


def test_rows_are_sent_whole_and_shown_as_their_number(
    clean_store: ServerInfo, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [[n, f"name-{n}"] for n in range(3)]
    with caplog.at_level(logging.DEBUG, "neo4j"), driver.session() as session:
        held = session.execute_write(lambda tx: run_planned(tx, "UNWIND $rows AS r RETURN r", rows=rows).value())
    assert held == rows
    (line,) = (r.getMessage() for r in caplog.records if "C: RUN" in r.getMessage())
    assert "UNWIND $rows" in line and "<3 rows>" in line and "name-1" not in line
