"""Every error of gradtrace that a caller may want to catch.

    GradtraceError
    ├── TraceError                     the tracer cannot trace what it was given
    │   ├── LossError                  the loss is no scalar, has no graph, or its graph is gone
    │   ├── UntraceableOperatorError   an operator has no rule and is too large to probe, or is refused
    │   ├── OpaqueKernelError          the loss was recorded with fused kernels that hide their operators
    │   ├── BudgetError                the graph is larger than the stated budget
    │   ├── ComponentError             a component name is malformed or used twice in conflict
    │   ├── StaleTraceError            a path is asked for that would have to be worked out from tensors changed since
    │   └── LookupTraceError           no such parameter, scalar or recorded tensor in this trace
    ├── SinkError                      a sink cannot take or keep steps
    │   ├── SinkClosedError            it was closed
    │   └── SinkFullError              its bounded queue stayed full
    ├── StoreError                     the graph database
    │   ├── StoreUnreachableError      nothing answers there (CLI exit code 3)
    │   ├── StoreAuthError             it answers, but refuses the credentials
    │   ├── StoreSchemaError           its schema is newer, older or tampered with
    │   ├── StoreLockedError           another process owns the data folder
    │   ├── StoreFilesError            a file of the embedded server is missing or not the one expected
    │   ├── StaleFenceError            another worker took the run over; this one may write no more
    │   ├── StoreIntegrityError        counts after a write do not match what was sent
    │   └── UnknownGraphError          a step refers to a graph fingerprint that the store does not hold
    ├── QueryError                     a question could not be asked
    │   ├── UnknownQueryError          no question of that name
    │   ├── QueryParameterError        a parameter is missing, unknown or of the wrong type
    │   ├── QueryRefusedError          the read-only gate said no (CLI exit code 4)
    │   └── QueryTimeoutError          it ran longer than its limit
    ├── BrokerError                    the queue (Redis or Valkey)
    │   ├── BrokerUnreachableError     nothing answers there (CLI exit code 3)
    │   └── BrokerAuthError            it answers, but refuses the credentials
    ├── CheckpointError                a checkpoint cannot be written, or is torn or of another run
    │   └── CheckpointNameError        no checkpoint, or no run, can have that name
    ├── ReportError                    a report cannot be made: no such run, no traced step, or a package is missing
    ├── ExchangeError                  runs cannot go to, or come from, a file (CLI exit code 4)
    └── SpecError                      a workload or a hyperparameter is unknown or of the wrong type

Messages say what came, what was expected and what to do next.
"""

from __future__ import annotations


class GradtraceError(Exception):
    """Base of all errors that gradtrace raises on purpose."""


class TraceError(GradtraceError):
    """The tracer cannot trace what it was given."""


class LossError(TraceError):
    """The loss is no scalar, has no graph, or its graph is gone."""


class UntraceableOperatorError(TraceError):
    """An operator has no closed rule and is too large to probe, or is refused.

    Attributes:
        op: the autograd node's name.
        shape: shape of its output.
    """

    def __init__(self, message: str, op: str = "", shape: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.op = op
        self.shape = shape


class OpaqueKernelError(UntraceableOperatorError):
    """The loss was recorded with fused kernels that hide their operators."""


class BudgetError(TraceError):
    """The graph is larger than the stated budget."""


class ComponentError(TraceError):
    """A component name is malformed or used twice in conflict."""


class StaleTraceError(TraceError):
    """A trace is asked for a path that it would have to work out from tensors that were changed since."""


class LookupTraceError(TraceError, KeyError):
    """No such parameter, scalar or recorded tensor in this trace."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class SinkError(GradtraceError):
    """A sink cannot take or keep steps."""


class SinkClosedError(SinkError):
    """The sink was closed."""


class SinkFullError(SinkError):
    """The sink's bounded queue stayed full."""


class StoreError(GradtraceError):
    """The graph database cannot be used."""


class StoreUnreachableError(StoreError):
    """Nothing answers at the store's address."""


class StoreAuthError(StoreError):
    """The store answers, but refuses the credentials."""


class StoreSchemaError(StoreError):
    """The store's schema is newer than this version, too old, or tampered with."""


class StoreLockedError(StoreError):
    """Another process owns the data folder."""


class StoreFilesError(StoreError):
    """A file of the embedded server could not be fetched, or is not the one expected."""


class StaleFenceError(StoreError):
    """Another worker took the run over; this one may write no more."""


class StoreIntegrityError(StoreError):
    """Counts after a write do not match what was sent; the write was rolled back."""


class UnknownGraphError(StoreError):
    """A step refers to a graph fingerprint that the store does not hold."""


class QueryError(GradtraceError):
    """A question could not be asked."""


class UnknownQueryError(QueryError):
    """There is no question of that name."""


class QueryParameterError(QueryError):
    """A parameter of a question is missing, unknown or of the wrong type."""


class QueryRefusedError(QueryError):
    """The read-only gate refused the query."""


class QueryTimeoutError(QueryError):
    """The query ran longer than its limit."""


class BrokerError(GradtraceError):
    """The queue cannot be used."""


class BrokerUnreachableError(BrokerError):
    """Nothing answers at the queue's address."""


class BrokerAuthError(BrokerError):
    """The queue answers, but refuses the credentials."""


class CheckpointError(GradtraceError):
    """A checkpoint cannot be written, or it is torn, or of another run."""


class CheckpointNameError(CheckpointError):
    """A checkpoint or its run has a name that gradtrace gives to none, or one that leads out of the folder of checkpoints."""


class SpecError(GradtraceError):
    """A workload or a hyperparameter is unknown or of the wrong type."""


class ReportError(GradtraceError):
    """A report cannot be made: a run is unknown or has no traced steps, or a package is missing."""


class ExchangeError(GradtraceError):
    """Runs cannot be exported to, or imported from, what was named; nothing was written."""
