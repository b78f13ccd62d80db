"""The driver's errors in gradtrace's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    DriverError,
    Neo4jError,
    ServiceUnavailable,
    SessionExpired,
    TransientError,
)

from gradtrace.tracer.errors import GradtraceError, StoreAuthError, StoreError, StoreUnreachableError


class StoreBusyError(StoreUnreachableError):
    """The store answers, but would not take the write however often it was tried."""


class StoreTooLargeError(StoreError):
    """The store has too little memory for one transaction of this size."""


@contextmanager
def translated(doing: str, where: str = "the store") -> Iterator[None]:
    """Raise gradtrace's errors where the driver raises its own.

    Args:
        doing: what was being done ("writing steps").
        where: how the store is called in messages; never with credentials.
    """
    try:
        yield
    except GradtraceError:
        raise
    except AuthError as error:
        raise StoreAuthError(
            f"{where} refuses the user name or the password ({error.code}). Set GRADTRACE_NEO4J_USER and "
            "GRADTRACE_NEO4J_PASSWORD to what the server expects."
        ) from error
    except (ServiceUnavailable, SessionExpired) as error:
        raise StoreUnreachableError(
            f"Nothing answers at {where} while {doing} ({_first_line(error)}). Is the server running? "
            "`gradtrace db status` tells for the embedded one; GRADTRACE_NEO4J_URI names any other."
        ) from error
    except TransientError as error:
        if is_memory(error):
            raise StoreTooLargeError(
                f"{where} has too little memory for one transaction while {doing} ({error.code}). Give the server more "
                "(db.memory.transaction.total.max, heap), or write smaller batches."
            ) from error
        raise StoreBusyError(
            f"{where} would not take the write while {doing}, though it was tried again and again ({error.code}). "
            "Are other programs holding locks?"
        ) from error
    except (ConfigurationError, ValueError) as error:
        raise StoreError(
            f"{where} cannot be used while {doing}: {_first_line(error)}. An address looks like bolt://host:7687."
        ) from error
    except (Neo4jError, DriverError) as error:
        raise StoreError(f"{where} failed while {doing}: {_first_line(error)}") from error


@contextmanager
def within_memory() -> Iterator[None]:
    """Keep the driver from trying again, for ever, what is too large for the server's memory."""
    try:
        yield
    except TransientError as error:
        if is_memory(error):
            raise StoreTooLargeError(
                f"The store has too little memory for this batch ({error.code}). Give the server more "
                "(db.memory.transaction.total.max, heap), or trace a smaller graph."
            ) from error
        raise


def is_memory(error: BaseException) -> bool:
    """Whether the server ran out of the memory that transactions may take: it calls that transient, but it is not."""
    code = getattr(error, "code", None) or ""
    return "MemoryPoolOutOfMemory" in code or "OutOfMemory" in code


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
