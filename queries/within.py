"""Work with a server, in a time limit that holds and with errors in gradtrace's own words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from neo4j.exceptions import AuthError, ConfigurationError, DriverError, Neo4jError, ServiceUnavailable, SessionExpired

from gradtrace.queries.messages import translated, unreachable
from gradtrace.tracer.errors import QueryError, QueryTimeoutError

_GRACE = 5.0  # seconds beyond the limit after which a server that does not look at its clock is left alone
Result = TypeVar("Result")


def within(work: Callable[[], Result], timeout: float, *, again: bool = True) -> Result:
    """Do the work in a thread of its own, so that a server which forgets its clock (or Ctrl-C) cannot hold us."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            try:
                done.append(work())
            except (SessionExpired, ServiceUnavailable):
                if not again:
                    raise
                done.append(work())  # the connection was one to a server that has been restarted since
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True, name="gradtrace-query")
    thread.start()
    thread.join(timeout + _GRACE)
    if failed:
        with plainly(timeout):
            raise failed[0]
    if not done:
        raise QueryTimeoutError(
            f"The query took longer than its limit of {timeout:g} s and did not stop when told to. "
            "Narrow it, or raise the limit."
        )
    return done[0]


@contextmanager
def plainly(timeout: float) -> Iterator[None]:
    """Raise what the driver raises in gradtrace's own types and words."""
    try:
        yield
    except AuthError as error:
        raise translated(error.code or "Neo.ClientError.Security.Unauthorized", error.message or "", timeout) from error
    except (ServiceUnavailable, SessionExpired) as error:
        raise unreachable(str(error)) from error
    except Neo4jError as error:
        raise translated(error.code or "", error.message or "", timeout) from error
    except ConfigurationError as error:
        raise unreachable(str(error)) from error
    except (DriverError, ValueError, TypeError, OverflowError) as error:  # a parameter that cannot be sent
        raise QueryError(f"The query could not be sent: {error}") from error
