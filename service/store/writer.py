"""Writing batches: what the sink's thread does, without the thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from neo4j import ManagedTransaction, Session
from neo4j.exceptions import ConstraintError, DriverError, Neo4jError

from gradtrace.service import metrics
from gradtrace.service.store.connect import Store
from gradtrace.service.store.driver_errors import StoreTooLargeError, translated, within_memory
from gradtrace.service.store.prune_scalars import drop_graphs
from gradtrace.service.store.runs import announce, end, note_held_out
from gradtrace.service.store.scalars import Draft, malformed, unlinked, write_drafts
from gradtrace.service.store.steps import Written, check_fences, write_steps
from gradtrace.service.store.structure import Known, MissingStructureError, Structure, write_structure
from gradtrace.tracer.errors import StoreIntegrityError, StoreUnreachableError, UnknownGraphError
from gradtrace.tracer.steptrace import RunRecord, StepTrace

_RACES = 32
"""How often writers that create one shared node at once try again; each try means that another one has committed."""


class BatchWriter:
    """Writes batches of steps through one store, and remembers what is there already. One thread at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.created = 0
        self._known = Known()
        self._where = f"the store at {store.uri}"

    def announce(self, run: RunRecord) -> None:
        """Write a run if it is not there."""
        with translated(f"announcing run {run.id!r}", self._where), self._session() as session:
            session.execute_write(announce, run)

    def end(self, run: str, status: str, reason: str | None, fence: int | None) -> None:
        """Mark how a run ended."""
        with translated(f"closing run {run!r}", self._where), self._session() as session:
            session.execute_write(end, run, status, reason, fence)

    def note_held_out(self, run: str, measured: Mapping[str, float], fence: int | None) -> None:
        """Keep what a run measured on held-out examples."""
        with translated(f"measuring run {run!r}", self._where), self._session() as session:
            session.execute_write(note_held_out, run, measured, fence)

    def write(self, steps: Sequence[StepTrace], fences: Mapping[str, int]) -> int:
        """Make `steps` durable in one transaction (what they share in another one before); how many are new.

        A batch that is too large for the server's memory is halved.

        Raises:
            StoreError: a subclass that says what is wrong; none of the steps of the failed transaction is stored.
        """
        try:
            return self._try(steps, fences)
        except StoreUnreachableError:
            if not self.store.find_again():
                raise
            metrics.count_retry("store")
            self._where = f"the store at {self.store.uri}"
            return self._try(steps, fences)
        except StoreTooLargeError:
            if len(steps) == 1:
                raise
            half = len(steps) // 2
            return self.write(steps[:half], fences) + self.write(steps[half:], fences)

    def _try(self, steps: Sequence[StepTrace], fences: Mapping[str, int]) -> int:
        with translated("writing steps", self._where), self._session() as session:
            return self._write(session, steps, fences)

    def _session(self) -> Session:
        return self.store.driver.session(database=self.store.database)

    def _write(self, session: Session, steps: Sequence[StepTrace], fences: Mapping[str, int]) -> int:
        for attempt in range(_RACES):
            try:
                need = self._known.missing(steps)
                if need:
                    self.created += session.execute_write(_structure, need)
                    self._known.add(need)
                with _drafts(session, steps, fences) as drafts:
                    written = session.execute_write(_steps, steps, fences, drafts)
            except (UnknownGraphError, MissingStructureError):
                if attempt:
                    raise
                self._known.clear()  # someone removed what this writer had seen; write it again, once
            except ConstraintError as error:
                if attempt == _RACES - 1:
                    raise StoreIntegrityError(f"The store keeps refusing equal keys: {error.message}") from error
            else:
                self.created += written.created
                return written.steps
        raise StoreIntegrityError("What the steps share vanished while it was written again. Is someone pruning?")


def slices(weights: Sequence[int], most: int, most_bytes: int) -> int:
    """How many of the first steps make one batch: at most `most` of together `most_bytes`, but one in any case.

    >>> slices([5, 5, 5, 5], most=10, most_bytes=12), slices([50, 5], most=10, most_bytes=12)
    (2, 1)
    """
    total = 0
    for count, weight in enumerate(weights[:most]):
        total += weight
        if count and total > most_bytes:
            return count
    return min(most, len(weights))


def unstorable(step: StepTrace) -> str | None:
    """Why a step cannot be stored whatever the store says, or None."""
    if not step.traces:
        return "it holds no trace"
    for trace in step.traces:
        edges = len(trace.graph.edges)
        for name in ("flow", "peak", "traffic", "mass", "dominant"):
            shape = getattr(trace, name).shape
            if shape != (edges,):
                return f"{name} has shape {shape} where the graph has {edges} edges"
    return next((reason for scalars in step.scalars if (reason := malformed(scalars, step))), None)


def _structure(tx: ManagedTransaction, need: Structure) -> int:
    with within_memory():
        return write_structure(tx, need)


def _steps(
    tx: ManagedTransaction, steps: Sequence[StepTrace], fences: Mapping[str, int], drafts: Sequence[Draft]
) -> Written:
    with within_memory():
        return write_steps(tx, steps, fences, drafts)


@contextmanager
def _drafts(session: Session, steps: Sequence[StepTrace], fences: Mapping[str, int]) -> Iterator[list[Draft]]:
    """Drafts of the steps' scalar graphs, dropped on leaving where no step has taken them."""
    made: list[Draft] = []
    if not any(step.scalars for step in steps):
        yield made
        return
    session.execute_read(
        check_fences, sorted({step.run for step in steps}), fences
    )  # nothing of a stale writer's is begun
    try:
        write_drafts(session, steps, made)
        yield made
    finally:
        with suppress(Neo4jError, DriverError):  # what is left then is for `prune`
            drop_graphs(session, unlinked(session, made))
