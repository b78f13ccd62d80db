"""The tasks: a segment of a run, and `reap`. Both are thin."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from celery import shared_task
from celery.utils.log import get_task_logger

from gradtrace.service.jobs import stopping
from gradtrace.service.jobs.gate import TicketMessage
from gradtrace.service.jobs.limits import REAP, SEGMENT

if TYPE_CHECKING:
    from gradtrace.service.jobs.work import Office

log = get_task_logger(__name__)
_offices: dict[int, Office] = {}  # by process


def _office() -> Office:
    """What this process works with; connected on first need, and after a fork once more."""
    from gradtrace.service.jobs.offices import open_office

    if os.getpid() not in _offices:
        _offices.clear()
        _offices[os.getpid()] = open_office()
    return _offices[os.getpid()]


@shared_task(name=SEGMENT)
def segment(run: str, fence: int) -> str:
    """Do one segment of a run."""
    begun = time.monotonic()  # Celery's time limits count from here; what is imported below can take seconds

    from gradtrace.service.jobs.work import work
    from gradtrace.tracer.errors import GradtraceError

    ticket = TicketMessage(run=run, fence=fence).ticket()
    try:
        with stopping.at_signal():
            return work(ticket, _office(), begun)
    except GradtraceError as error:
        log.error("Run %s: %s", run, error)
        return "failed; the run waits in the store"


@shared_task(name=REAP)
def reap() -> str:
    """Put tickets into the queue for all runs that wait in the store and have none."""
    from gradtrace.service.jobs.reap import reap as compare
    from gradtrace.tracer.errors import GradtraceError

    try:
        return f"{len(compare(_office()))} runs queued again"
    except GradtraceError as error:
        log.error("The queue could not be compared with the store: %s", error)
        return "failed"
