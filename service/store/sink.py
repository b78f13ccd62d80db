"""The Neo4j sink: steps are queued, and a thread of its own writes them in batches while training goes on."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Literal

from gradtrace.service import metrics
from gradtrace.service.store.connect import RETRY_SECONDS, Store, open_store
from gradtrace.service.store.rows import weight_of
from gradtrace.service.store.writer import BatchWriter, slices, unstorable
from gradtrace.tracer.errors import (
    GradtraceError,
    SinkClosedError,
    SinkError,
    SinkFullError,
    StoreAuthError,
    StoreError,
    StoreUnreachableError,
)
from gradtrace.tracer.fold import FOLD_EDGES, Folder, When
from gradtrace.tracer.sinks.protocol import check_status
from gradtrace.tracer.steptrace import RunRecord, StepTrace

log = logging.getLogger(__name__)

_BATCH_STEPS = 64
_BATCH_BYTES = 8 * 2**20
_QUEUE_STEPS = 256
_QUEUE_BYTES = 256 * 2**20
"""Of steps with scalar graphs, far fewer than `queue_steps` may wait."""
_LINGER_SECONDS = 2.0


class Neo4jSink:
    """Stores steps in Neo4j: exactly once each, in batches, in the background.

    `write` returns at once unless the queue is full. What goes wrong in the background is raised by the next `write`,
    `flush` or `close`, once; steps that could not be stored because the store was away are kept, and the next of
    these calls goes on with them. Steps that the store refuses for what they are end in `refused`.

    Args:
        uri, user, password: where the store is.
        database: name of the database; None for the one that the server gives this user.
        batch_steps: most steps of one transaction. What steps share, and what is summed over them, is looked up and
            written once a transaction, so that large ones cost less a step.
        batch_bytes: most bytes of one transaction, about; one step always fits.
        queue_steps: most steps that wait; a full queue makes `write` wait (`on_full="block"`) or fail (`"raise"`).
        queue_timeout: seconds after which a waiting `write` fails.
        linger_seconds: how long a transaction that is not full waits for more steps; `flush` does not wait.
        retry_seconds: how long a transaction is tried again while the store is away or busy.
        fold, fold_edges: when graphs are stored folded (see `gradtrace.tracer.fold.Folder`): by default those with more than
            2,000 edges, so that a long recurrence takes no more room than a short one.

    Attributes:
        refused: steps that cannot be stored, each with the reason.

    Raises:
        StoreUnreachableError, StoreAuthError, StoreSchemaError: the store cannot be used; raised by the constructor.

    Example:
        >>> with Neo4jSink(info.uri, info.user, info.password) as sink:          # doctest: +SKIP
        ...     sink.open_run(RunRecord("run-1", "demo", "default", {"lr": 0.1}))
        ...     tracer = Tracer(model, sink=sink, run="run-1")
    """

    def __init__(
        self,
        uri: str,
        user: str,
        password: str,
        *,
        database: str | None = "neo4j",
        batch_steps: int = _BATCH_STEPS,
        batch_bytes: int = _BATCH_BYTES,
        queue_steps: int = _QUEUE_STEPS,
        queue_timeout: float = 120.0,
        linger_seconds: float = _LINGER_SECONDS,
        on_full: Literal["block", "raise"] = "block",
        retry_seconds: float = RETRY_SECONDS,
        fold: When = "auto",
        fold_edges: int = FOLD_EDGES,
    ) -> None:
        _check_options(batch_steps, batch_bytes, queue_steps, queue_timeout, linger_seconds, on_full)
        folder = Folder(fold, fold_edges)
        store = open_store(uri, user, password, database, retry_seconds=retry_seconds)
        self._set_up(store, True, batch_steps, batch_bytes, queue_steps, queue_timeout, linger_seconds, on_full, folder)

    @classmethod
    def on(
        cls,
        store: Store,
        *,
        batch_steps: int = _BATCH_STEPS,
        batch_bytes: int = _BATCH_BYTES,
        queue_steps: int = _QUEUE_STEPS,
        queue_timeout: float = 120.0,
        linger_seconds: float = _LINGER_SECONDS,
        on_full: Literal["block", "raise"] = "block",
        fold: When = "auto",
        fold_edges: int = FOLD_EDGES,
    ) -> Neo4jSink:
        """A sink on a store that is connected already (`connect()`), and that stays open when the sink is closed."""
        _check_options(batch_steps, batch_bytes, queue_steps, queue_timeout, linger_seconds, on_full)
        sink = cls.__new__(cls)
        folder = Folder(fold, fold_edges)
        sink._set_up(
            store, False, batch_steps, batch_bytes, queue_steps, queue_timeout, linger_seconds, on_full, folder
        )
        return sink

    def _set_up(
        self,
        store: Store,
        owned: bool,
        batch_steps: int,
        batch_bytes: int,
        queue_steps: int,
        queue_timeout: float,
        linger_seconds: float,
        on_full: str,
        folder: Folder,
    ) -> None:
        self._folder = folder
        self.refused: list[tuple[StepTrace, GradtraceError]] = []
        self._store, self._owned = store, owned
        self._writer = BatchWriter(store)
        self._batch_steps, self._batch_bytes = batch_steps, batch_bytes
        self._queue_steps, self._queue_timeout, self._on_full = queue_steps, queue_timeout, on_full
        self._linger_seconds = linger_seconds
        self._runs: set[str] = set()
        self._fences: dict[str, int] = {}
        self._durable: dict[str, set[int]] = {}
        self._waiting: deque[tuple[StepTrace, int, float]] = deque()  # with their weight in bytes, and since when
        self._error: GradtraceError | None = None
        self._paused = False  # after an error, until a caller has heard of it
        self._urgent = 0  # flushes that wait
        self._closed = False
        self._said_full = False
        self._more_refused = 0  # steps refused since an error was raised, beyond the one that it names
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="gradtrace-neo4j-sink", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def __enter__(self) -> Neo4jSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except GradtraceError as failed:
            self.close(discard=True)
            if error is None:
                raise
            error.add_note(f"Closing the sink failed as well: {failed}")

    def __repr__(self) -> str:
        return f"Neo4jSink({self._store.uri!r}, waiting={len(self._waiting)}, durable={self.durable})"

    @property
    def durable(self) -> int:
        """Number of steps of this sink that are known to be in the store."""
        return sum(map(len, self._durable.values()))

    @property
    def unsent(self) -> tuple[StepTrace, ...]:
        """Steps that were taken and are not durable yet, in order; for instance to save them with a `JsonlSink`."""
        with self._changed:
            return tuple(step for step, _, _ in self._waiting)

    @property
    def created(self) -> int:
        """Number of nodes and relationships that this sink created."""
        return self._writer.created

    def open_run(self, run: RunRecord) -> None:
        """Announce a run; the first record of an id stays. Returns when it is durable."""
        self._check_open()
        self._writer.announce(run)
        self._runs.add(run.id)

    def set_fence(self, run: str, fence: int) -> None:
        """From now on write steps of `run` only while the store has the run at this fence token.

        A worker that took the run over has raised the fence in the store (`SET r.fence = r.fence + 1`); this writer
        then fails with a StaleFenceError, and writes nothing.
        """
        with self._changed:
            self._fences[run] = fence

    def write(self, step: StepTrace) -> None:
        """Queue one step. A run that was never announced is announced with no more than its id.

        Raises:
            SinkFullError: the queue is full, and stayed so; the step was not taken.
            SinkClosedError: the sink was closed.
            SinkError: the step is malformed; it was not taken.
            StoreError: an earlier step could not be stored; whether this one was taken is said in the message.
        """
        self._check_open()
        if reason := unstorable(step):
            raise SinkError(f"Step {step.step} of run {step.run!r} cannot be stored: {reason}.")
        step = self._folder.step(step)
        weight = weight_of(step)
        if step.run not in self._runs:
            modes = tuple(dict.fromkeys(t.mode for t in step.traces))
            self.open_run(RunRecord(step.run, "", "default", {}, modes))
        with self._changed:
            self._check_open()
            if self._error is None and self._is_full():
                self._wait_for_room()
            if not self._is_full():
                self._waiting.append((step, weight, time.monotonic()))
                metrics.set_waiting(len(self._waiting))
                self._changed.notify_all()
                self._raise_error("This step was taken and waits with them.")
            else:
                self._raise_error(f"Step {step.step} of run {step.run!r} was not taken: the queue is full.")

    def flush(self) -> int:
        """Block until everything written so far is durable; return the number of durable steps of this sink.

        Raises:
            StoreError: some steps could not be stored; the message says how many. Those that the store's absence
                kept back are kept: call flush() again when it is back.
        """
        self._check_open()
        with self._changed:
            if self._paused:  # try again before complaining
                self._error, self._paused = None, False
            self._urgent += 1
            self._changed.notify_all()
            try:
                while self._waiting and not self._paused:  # a refused step does not keep the others back
                    self._changed.wait()
            finally:
                self._urgent -= 1
            self._raise_error()
            return self.durable

    def note_held_out(self, run: str, measured: Mapping[str, float]) -> None:
        """Keep what a run measured on held-out examples, as its properties `held_out_<name>`; returns when it is durable.

        Raises:
            StoreError: the run was never announced, or another worker holds it.
        """
        self._check_open()
        self._writer.note_held_out(run, measured, self._fences.get(run))

    def close_run(self, run: str, status: str, reason: str | None = None) -> None:
        """Flush, then mark the run `FINISHED`, `INTERRUPTED` or `FAILED` with the reason."""
        check_status(status)
        self.flush()
        self._writer.end(run, status, reason, self._fences.get(run))

    def close(self, *, discard: bool = False) -> None:
        """Flush and release everything; closing twice is no error.

        Where the flush fails, the sink stays open and keeps its steps: call flush() or close() again when the store is
        back, or `close(discard=True)` to give them up.
        """
        if self._closed:
            return
        if not discard:
            self.flush()
        with self._changed:
            self._closed = True
            lost = len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self._at_exit)
        if lost:
            log.error("%d steps were given up with the sink of %s; they are not stored.", lost, self._store.uri)
        if self._owned:
            self._store.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SinkClosedError(f"The sink of {self._store.uri} was closed; make a new one to write more.")

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._queue_steps or self._waiting_bytes() >= _QUEUE_BYTES

    def _waiting_bytes(self) -> int:
        return sum(weight for _, weight, _ in self._waiting)

    def _wait_for_room(self) -> None:
        """Wait until the queue has room or an error came up; say once that training waits."""
        if self._on_full == "block" and not self._said_full:
            self._said_full = True
            log.warning(
                "The queue of the Neo4j sink is full (%d steps wait), and training waits for the store. Trace "
                "less often, or raise queue_steps.",
                len(self._waiting),
            )
        deadline = time.monotonic() + (self._queue_timeout if self._on_full == "block" else 0.0)
        while self._is_full() and self._error is None and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SinkFullError(
                    f"The queue of the sink of {self._store.uri} is full: {len(self._waiting)} steps wait, and this "
                    f"one was not taken (on_full={self._on_full!r}, queue_timeout={self._queue_timeout:g} s). Trace "
                    "less often, raise queue_steps, or look at what slows the store."
                )
            self._changed.wait(left)
        self._check_open()

    def _raise_error(self, more: str = "") -> None:
        """Raise what the writer met, once; it then tries again."""
        error, self._error = self._error, None
        if error is not None:
            self._paused = False
            self._changed.notify_all()
            if self._more_refused:
                more = f"{self._more_refused} more were refused; `refused` lists them. {more}".rstrip()
                self._more_refused = 0
            if more:
                error.args = (f"{error.args[0]} {more}", *error.args[1:])
            raise error

    def _work(self) -> None:
        """The thread: take a batch, write it, take it off the queue."""
        while True:
            with self._changed:
                while not self._closed and (not self._waiting or self._paused):
                    self._changed.wait()
                if self._closed:
                    return
                self._changed.wait_for(self._batch_is_due, self._linger_seconds)
                held = list(self._waiting)
                fences = dict(self._fences)
            count = slices([weight for _, weight, _ in held], self._batch_steps, self._batch_bytes)
            batch = [step for step, _, _ in held[:count]]
            if batch:
                self._write(batch, fences)

    def _batch_is_due(self) -> bool:
        if self._closed or self._urgent or self._is_full() or len(self._waiting) >= self._batch_steps:
            return True
        return self._waiting_bytes() >= self._batch_bytes

    def _write(self, batch: list[StepTrace], fences: dict[str, int]) -> None:
        try:
            self._writer.write(batch, fences)
        except (StoreUnreachableError, StoreAuthError) as error:
            self._keep(error)
        except Exception as error:
            if len(batch) > 1:  # find the step that is to blame; the others are good
                for step in batch:
                    self._write([step], fences)
                    if self._paused:
                        return
            else:
                self._refuse(batch[0], error)
        else:
            with self._changed:
                for step in batch:
                    self._durable.setdefault(step.run, set()).add(step.step)
                if self._waiting:
                    metrics.count_stored(len(batch), time.monotonic() - self._waiting[0][2])
                self._drop(len(batch))

    def _keep(self, error: GradtraceError) -> None:
        with self._changed:
            if self._closed:
                return
            metrics.count_retry("store")
            count = len(self._waiting)
            error.args = (f"{error.args[0]} {count} steps are not stored; they are kept, and flush() tries again.",)
            self._error, self._paused = error, True
            self._changed.notify_all()

    def _refuse(self, step: StepTrace, error: Exception) -> None:
        kind = type(error) if isinstance(error, GradtraceError) else StoreError
        named = kind(f"Step {step.step} of run {step.run!r} was refused and is not stored: {error}")
        named.__cause__ = error
        with self._changed:
            self.refused.append((step, named))
            if self._error is None:
                self._error = named
            else:
                self._more_refused += 1
            self._drop(1)

    def _drop(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            self._waiting.popleft()
        metrics.set_waiting(len(self._waiting))
        self._changed.notify_all()

    def _at_exit(self) -> None:
        """The process ends without close(): store what waits, or say what is lost."""
        try:
            self.close()
        except GradtraceError as error:
            log.error("The process ends with %d steps that are not stored: %s", len(self._waiting), error)
            self.close(discard=True)


def _check_options(
    batch_steps: int, batch_bytes: int, queue_steps: int, queue_timeout: float, linger_seconds: float, on_full: str
) -> None:
    for name, value in (("batch_steps", batch_steps), ("batch_bytes", batch_bytes), ("queue_steps", queue_steps)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    for name, seconds in (("queue_timeout", queue_timeout), ("linger_seconds", linger_seconds)):
        if not seconds >= 0:
            raise ValueError(f"{name} is {seconds}; it must not be negative.")
    if on_full not in ("block", "raise"):
        raise ValueError(f"on_full is {on_full!r}; it is 'block' or 'raise'.")
