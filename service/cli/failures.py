"""Which exit status and which words an error gets."""

from __future__ import annotations

from gradtrace.tracer import errors

OK, FAILED, USAGE, UNREACHABLE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

# The first class that fits decides.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (errors.StoreUnreachableError, UNREACHABLE),
    (errors.BrokerUnreachableError, UNREACHABLE),
    (errors.QueryRefusedError, REFUSED),
    (errors.StoreAuthError, REFUSED),
    (errors.StoreLockedError, REFUSED),
    (errors.BrokerAuthError, REFUSED),
    (errors.BudgetError, REFUSED),
    (errors.ExchangeError, REFUSED),
    (errors.SpecError, USAGE),
    (errors.UnknownQueryError, USAGE),
    (errors.QueryParameterError, USAGE),
)


def exit_status(error: Exception) -> int:
    """The exit status for an error.

    >>> exit_status(errors.QueryRefusedError("no")), exit_status(ValueError())
    (4, 1)
    """
    return next((status for kind, status in _STATUS if isinstance(error, kind)), FAILED)


def message(error: Exception) -> str:
    """What to print of an error: its own words if it is one of ours, else its kind as well and where to see more."""
    if isinstance(error, errors.GradtraceError):
        return f"Error: {error}"
    if isinstance(error, OSError):
        return f"Error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return (
        f"Error: {type(error).__name__}: {error}\nThis should not happen. `gradtrace --debug ...` shows where it did."
    )
