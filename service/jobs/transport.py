"""Celery's Redis transport with the gate in it: a message that is no ticket of ours is dropped before Celery looks at it."""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis

from gradtrace.service.jobs.gate import RefusedMessageError, checked
from gradtrace.service.jobs.limits import CONTROL, QUEUE

log = logging.getLogger(__name__)


class Channel(redis.Channel):
    """Reads messages; one that is not even JSON does not end the worker."""

    def _brpop_read(self, **options: Any) -> bool:
        try:
            return super()._brpop_read(**options)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            # The server has handed the message out already, so it is gone with this.
            log.warning("A message that is no message was dropped from the queue (%s).", type(error).__name__)
            return True


class Transport(redis.Transport):
    """Hands messages on to those who wait for them, if they are what gradtrace writes."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        if queue in (QUEUE, CONTROL):
            try:
                message = checked(message, queue)
            except RefusedMessageError as error:
                log.warning("A message was dropped from the queue %s: %s.", queue, error)
                return
        super()._deliver(message, queue)
