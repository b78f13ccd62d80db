"""The queue of tickets, as far as others than a worker touch it: putting one in, and looking at what is there."""

from __future__ import annotations

import json
import logging
import time

from gradtrace.service.broker import connected
from gradtrace.service.jobs.gate import ticket_in
from gradtrace.service.jobs.limits import CONTROL, QUEUE, SEGMENT
from gradtrace.service.jobs.redact import one_line
from gradtrace.service.store.jobs import Ticket

log = logging.getLogger(__name__)
# kombu's names: messages that were delivered and not acknowledged, and when they were delivered
_UNACKED, _DELIVERED = "unacked", "unacked_index"
_PAGE = 1000


def enqueue(ticket: Ticket) -> bool:
    """Put a ticket into the queue; False if the broker would not take it, which is logged."""
    from kombu.exceptions import OperationalError

    from gradtrace.service.jobs.app import app

    try:
        app().send_task(SEGMENT, kwargs={"run": ticket.run, "fence": ticket.fence}, queue=QUEUE)
    except (OperationalError, OSError) as error:
        log.warning("The queue did not take the ticket of run %s: %s", ticket.run, one_line(error))
        return False
    return True


def queue_lengths(url: str) -> dict[tuple[str, str], int]:
    """(queue, "waiting") → messages, and how many were delivered and not acknowledged.

    Raises:
        BrokerError: it does not answer.
    """
    with connected(url) as client:
        waiting = {(queue, "waiting"): int(client.llen(queue)) for queue in (QUEUE, CONTROL)}
        return {**waiting, ("all", "unacknowledged"): int(client.zcard(_DELIVERED))}


def queued(url: str, fresh: float) -> set[Ticket]:
    """All tickets that wait, and those that were delivered a short while ago.

    Args:
        url: of the broker.
        fresh: seconds; a ticket delivered longer ago has been used, or its worker is gone.

    Raises:
        BrokerError: it does not answer.
    """
    with connected(url) as client:
        texts = []
        for start in range(0, client.llen(QUEUE), _PAGE):
            texts += client.lrange(QUEUE, start, start + _PAGE - 1)
        tags = [str(tag) for tag in client.zrangebyscore(_DELIVERED, time.time() - fresh, "+inf")]
        for text in client.hmget(_UNACKED, tags) if tags else ():
            try:
                inside, _exchange, _key = json.loads(text or "")
            except ValueError:
                continue
            texts.append(json.dumps(inside))
    return {ticket for text in texts if (ticket := ticket_in(text)) is not None}
