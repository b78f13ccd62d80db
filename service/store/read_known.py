"""What a store holds of a run already, in short: for whoever wants to add to it."""

from __future__ import annotations

from dataclasses import dataclass

from neo4j import Driver

from gradtrace.service.store.driver_errors import translated
from gradtrace.service.store.read import run_record
from gradtrace.tracer.steptrace import RunRecord

_RUN = "MATCH (r:Run {id: $run}) RETURN properties(r) AS held"
_STEPS = "MATCH (s:Step) WHERE s.run = $run AND s.step >= $least RETURN s.step, s.epoch, s.loss"


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A stored run in short.

    Attributes:
        record: as a sink was told of it.
        status: how far it is.
        taken: whether a worker has it.
        steps: epoch and loss of its traced steps by number.
    """

    record: RunRecord
    status: str
    taken: bool
    steps: dict[int, tuple[int, float]]


def known_run(driver: Driver, run: str, database: str | None = "neo4j") -> KnownRun | None:
    """What the store holds of a run, pruned steps included; None if it does not hold it."""
    with translated("looking at a run"), driver.session(database=database) as session:
        found = session.execute_read(lambda tx: tx.run(_RUN, run=run).single())
        if found is None:
            return None
        rows = session.execute_read(lambda tx: [r.values() for r in tx.run(_STEPS, run=run, least=-(2**62))])
    held = found["held"]
    steps = {step: (epoch, loss) for step, epoch, loss in rows}
    return KnownRun(run_record(held), held["status"], held.get("holder") is not None, steps)
