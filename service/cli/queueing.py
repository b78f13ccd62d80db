"""The store and the queue together, for the commands that submit, cancel and resume runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradtrace.service.cli.store import load, opened_store

if TYPE_CHECKING:
    from gradtrace.service.spec import RunSpec
    from gradtrace.service.store.jobs import Jobs, Ticket


@dataclass(slots=True)
class Queueing:
    """Runs into the store, tickets into the queue.

    Attributes:
        jobs: the jobs of the store.
        refused: tickets that the queue did not take.
    """

    jobs: Jobs
    refused: int = 0

    def submit(self, spec: RunSpec) -> str:
        """Write a run and queue it; returns its id."""
        from gradtrace.service.spec import new_run_id
        from gradtrace.tracer.steptrace import RunRecord

        run = new_run_id(spec.workload, 8)
        record = RunRecord(run, spec.workload, spec.experiment, spec.record_parameters(), spec.modes)
        self.put(self.jobs.submit(record, spec.model_dump_json()))
        return run

    def put(self, ticket: Ticket) -> None:
        """Queue a ticket."""
        from gradtrace.service.jobs.queue import enqueue

        if not enqueue(ticket):
            self.refused += 1


@contextlib.contextmanager
def opened_queue() -> Iterator[Queueing]:
    """Connect to the store and see that the queue answers; embedded servers are started if need be.

    Raises:
        StoreUnreachableError, BrokerUnreachableError: one of the two does not answer; nothing was written.
    """
    load()
    from gradtrace.service.broker import ping
    from gradtrace.service.jobs.offices import broker_url
    from gradtrace.service.store.jobs import Jobs

    ping(broker_url())
    with opened_store() as opened:
        yield Queueing(Jobs(opened.store))
