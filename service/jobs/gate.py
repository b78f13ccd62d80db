"""The gate before Celery: of what lies in the queue, only well-formed tickets come through, rebuilt from their checked parts.

Whoever can write to the broker can put anything into a queue. Celery refuses content types and unknown tasks, but looks at
a message's headers on the way, and a malformed envelope can end a worker; a header can also lift a task's time limits or
delay it for ever. So a message is taken apart here, before Celery sees it, and every part that is not exactly as
`enqueue` writes it is a reason to drop it with a line in the log.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gradtrace.service.jobs.limits import CONTROL, QUEUE, REAP, SEGMENT
from gradtrace.service.store.jobs import Ticket

log = logging.getLogger(__name__)

MOST_BODY = 4096
"""Characters of a message's body; a ticket has about 200."""
_PER_QUEUE = {QUEUE: SEGMENT, CONTROL: REAP}

RunId = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\z", max_length=150)]
_Word = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._@-]*\z", max_length=200)]


class RefusedMessageError(ValueError):
    """A message is not what gradtrace writes; the text says why, in a few words and without the message's own."""


class TicketMessage(BaseModel):
    """The keyword arguments of a segment's task: all that a message says."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    run: RunId
    fence: int = Field(ge=0, lt=2**63)

    def ticket(self) -> Ticket:
        """As the store takes it."""
        return Ticket(self.run, self.fence)


class _Headers(BaseModel):
    model_config = ConfigDict(strict=True)

    task: str
    id: _Word
    origin: _Word | None = None
    expires: Annotated[str, StringConstraints(max_length=64)] | None = None


class _DeliveryInfo(BaseModel):
    model_config = ConfigDict(strict=True)

    exchange: Annotated[str, StringConstraints(max_length=200)]
    routing_key: Annotated[str, StringConstraints(max_length=200)]


class _Properties(BaseModel):
    model_config = ConfigDict(strict=True)

    delivery_tag: _Word
    body_encoding: Literal["base64"]
    delivery_info: _DeliveryInfo


class _Envelope(BaseModel):
    model_config = ConfigDict(strict=True, populate_by_name=True)

    body: Annotated[str, StringConstraints(max_length=MOST_BODY)]
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


def checked(raw: object, queue: str) -> dict[str, Any]:
    """A message rebuilt from its checked parts.

    Args:
        raw: what was read from the queue, as JSON data.
        queue: which queue; each carries one task only.

    Raises:
        RefusedMessageError: something about it is not as it should be.
    """
    try:
        envelope = _Envelope.model_validate(raw)
        wanted = _PER_QUEUE[queue]
        if envelope.headers.task != wanted:
            raise RefusedMessageError(f"its task is not {wanted}")
        arguments = _arguments(envelope.body)
        if wanted == SEGMENT:
            arguments = TicketMessage.model_validate(arguments).model_dump()
        elif arguments:
            raise RefusedMessageError(f"{wanted} takes no arguments")
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in detail["loc"])[:60]
        raise RefusedMessageError(f"{where or 'the message'}: {detail['msg'][:120]}") from None
    given, properties = envelope.headers, envelope.properties
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    text = json.dumps([[], arguments, embed])
    return {
        "body": base64.b64encode(text.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": wanted,
            "id": given.id,
            "root_id": given.id,
            "parent_id": None,
            "group": None,
            "shadow": None,
            "eta": None,
            "expires": given.expires if wanted == REAP else None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": repr(arguments),
            "origin": given.origin,
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": given.id,
            "delivery_mode": 2,
            "delivery_info": properties.delivery_info.model_dump(),
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": properties.delivery_tag,
        },
    }


def ticket_in(raw: str | bytes) -> Ticket | None:
    """The ticket in a raw message of the queue, or None where there is no good one."""
    try:
        message = json.loads(raw)
        inside = json.loads(base64.b64decode(checked(message, QUEUE)["body"]))[1]
        return Ticket(inside["run"], inside["fence"])
    except (RefusedMessageError, ValueError, RecursionError):
        return None


def _arguments(body: str) -> dict[str, Any]:
    try:
        parts = json.loads(base64.b64decode(body, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise RefusedMessageError("its body is no JSON in base64") from None
    if not (isinstance(parts, list) and len(parts) == 3 and parts[0] == [] and isinstance(parts[1], dict)):
        raise RefusedMessageError("its body is not [[], keyword arguments, options]")
    options = parts[2]
    if not isinstance(options, dict) or any(value is not None for value in options.values()):
        raise RefusedMessageError("it names further tasks to be called")
    return parts[1]
