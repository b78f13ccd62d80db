"""Stored runs as the plain data that a sink is given: so that they can go to a file, or to another store.

A run comes back step by step, read in pages of bounded size. What comes back is what the store keeps: path arrays of
parameters beyond the strongest and the watched ones are empty, and the shares of routes are made of their masses. Written to
another store, it is the same run there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neo4j import Driver

from gradtrace.service.store.driver_errors import translated
from gradtrace.service.store.read_steps import StepReader
from gradtrace.service.store.rows import weight_of
from gradtrace.tracer.errors import StoreError
from gradtrace.tracer.steptrace import RunRecord, StepTrace

_PAGE = 50
_PAGE_BYTES = 4_000_000
_OPEN = ("QUEUED", "RUNNING")
_HELD_OUT = "held_out_"
_RUN = "MATCH (r:Run {id: $run}) RETURN properties(r) AS held, COUNT { (r)-[:HAS_STEP]->() } AS steps"
_IDS = "MATCH (r:Run) RETURN r.id ORDER BY r.started DESC, r.id LIMIT 4"


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run that has ended, without its steps.

    Attributes:
        record: as a sink is told of it.
        status, reason: how it ended.
        held_out: what it measured on held-out examples, by name.
        steps: how many traced steps it has.
        started, ended: when, in ISO 8601; None where the store does not say.
    """

    record: RunRecord
    status: str
    reason: str | None
    held_out: Mapping[str, float]
    steps: int
    started: str | None = None
    ended: str | None = None


def read_run(driver: Driver, run: str, database: str | None = "neo4j") -> StoredRun:
    """A run of which every step can be read.

    Raises:
        StoreError: there is no such run, it has not ended, or steps of it were pruned.
    """
    with translated("reading a run"), driver.session(database=database) as session:
        found = session.execute_read(lambda tx: tx.run(_RUN, run=run).single())
        if found is None:
            ids = session.execute_read(lambda tx: [r[0] for r in tx.run(_IDS)])
            known = f"it holds {', '.join(ids[:3])}{' and others' if len(ids) > 3 else ''}" if ids else "it holds none"
            raise StoreError(f"The store holds no run {run!r}; {known}. `gradtrace runs` lists them.")
    held, steps = found["held"], found["steps"]
    if held["status"] in _OPEN:
        raise StoreError(
            f"Run {run!r} is {held['status']}, so it is not whole yet. Wait until it has ended, or end it: "
            f"`gradtrace cancel {run}`."
        )
    if pruned := held.get("pruned"):
        raise StoreError(
            f"{pruned} of the {steps} traced steps of run {run!r} were pruned: their detail is gone, only sums over epochs and "
            "over the run still hold it, and these cannot be made anew elsewhere. Export runs before `gradtrace db prune`; "
            "a store as a whole is copied as docs/operations.md says."
        )
    measured = {k.removeprefix(_HELD_OUT): v for k, v in held.items() if k.startswith(_HELD_OUT)}
    return StoredRun(
        run_record(held),
        held["status"],
        held.get("reason"),
        dict(sorted(measured.items())),
        steps,
        _time(held, "started"),
        _time(held, "ended"),
    )


def run_record(held: Mapping[str, Any]) -> RunRecord:
    """The record of a run from the properties of its node."""
    return RunRecord(
        id=held["id"],
        workload=held["workload"],
        experiment=held["experiment"],
        parameters=json.loads(held["parameters"]),
        modes=tuple(held["modes"]),
    )


def read_steps(
    driver: Driver, run: str, database: str | None = "neo4j", *, only: int | None = None
) -> Iterator[StepTrace]:
    """The steps of a run in their order.

    Args:
        driver, database: the store.
        run: its id.
        only: this step alone.

    Raises:
        StoreError: the store cannot be reached, or the detail of a step is not there.
        StoreIntegrityError: what the store holds is not what was written.
    """
    reader = StepReader(run)
    after, most, page = (-(2**62), 2**62, 1) if only is None else (only - 1, only, 1)
    while True:
        with translated("reading steps"), driver.session(database=database) as session:
            steps = session.execute_read(reader.page, after, most, page)
        if not steps:
            return
        yield from steps
        after = steps[-1].step
        page = max(1, min(_PAGE, _PAGE_BYTES // max(weight_of(step) for step in steps)))


def read_step_numbers(driver: Driver, run: str, database: str | None = "neo4j") -> list[int]:
    """The numbers of the stored steps of a run, in order."""
    query = "MATCH (s:Step) WHERE s.run = $run AND s.step >= $least RETURN s.step ORDER BY s.step"
    with translated("reading steps"), driver.session(database=database) as session:
        return session.execute_read(lambda tx: [r[0] for r in tx.run(query, run=run, least=-(2**62))])


def _time(held: Mapping[str, Any], name: str) -> str | None:
    value = held.get(name)
    return None if value is None else value.iso_format()
