"""`reap`: compare the queue with the store, which is the truth about runs, and put in what is missing."""

from __future__ import annotations

import logging

from gradtrace.service.jobs.offices import broker_url
from gradtrace.service.jobs.queue import queued
from gradtrace.service.jobs.work import Office
from gradtrace.service.store.jobs import Ticket

log = logging.getLogger(__name__)
_MOST = 1000
"""Tickets of one call; the next call goes on."""


def reap(office: Office) -> list[Ticket]:
    """Queue every run again that waits in the store, or whose worker is gone, and that has no ticket in the queue.

    A ticket too many does no harm: of all tickets of one fence the first is good.

    Returns:
        The tickets that were put in.

    Raises:
        StoreUnreachableError, BrokerError: one of the two does not answer.
    """
    waiting = office.jobs.waiting()
    if not waiting:
        return []
    there = queued(broker_url(), office.limits.lease)
    missing = [ticket for ticket in waiting if ticket not in there]
    put = []
    for ticket in missing[:_MOST]:
        if not office.enqueue(ticket):
            break
        put.append(ticket)
    if put:
        log.warning(
            "%d runs had no ticket in the queue, or a worker that is gone, and are queued again: %s",
            len(put),
            ", ".join(t.run for t in put[:10]) + (", ..." if len(put) > 10 else ""),
        )
    return put
