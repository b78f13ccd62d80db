"""One segment of one run, by a worker: take the run, train from its checkpoint, commit, put it back or end it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradtrace.service import metrics
from gradtrace.service.jobs.heartbeat import Heartbeat
from gradtrace.service.jobs.limits import Limits
from gradtrace.service.jobs.patient import PatientSink
from gradtrace.service.jobs.redact import one_line
from gradtrace.service.log import about
from gradtrace.service.spec import spec_from_json
from gradtrace.service.store import Neo4jSink, Store
from gradtrace.service.store.holders import me
from gradtrace.service.store.jobs import Denied, Grant, Jobs, Ticket
from gradtrace.tracer.errors import CheckpointNameError, SpecError, StaleFenceError, StoreUnreachableError, TraceError

if TYPE_CHECKING:
    from gradtrace.service.segments import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Office:
    """What a worker works with.

    Attributes:
        store: the store.
        limits: how long things may take.
        checkpoints: folder of all checkpoints.
        enqueue: puts a ticket into the queue; says by False that it could not.
        stop: whether the worker is to end.
    """

    store: Store
    limits: Limits
    checkpoints: Path
    enqueue: Callable[[Ticket], bool]
    stop: Callable[[], bool]

    @property
    def jobs(self) -> Jobs:
        """The jobs of the store."""
        return Jobs(self.store)


@dataclass(frozen=True, slots=True)
class _End:
    """How a segment ended: a status of the run, with the reason; `QUEUED` where there is more to do."""

    status: str
    reason: str | None = None


def work(ticket: Ticket, office: Office, begun: float) -> str:
    """Do one segment of the run that a ticket names.

    Whatever goes wrong is dealt with here: it is in the run's record, and in the log. What this process cannot deal with
    (the store is away, or this process is killed) is left to `reap`.

    Args:
        ticket: of the run.
        office: what this process works with.
        begun: when the time limits of the segment began to count, by `time.monotonic()`.

    Returns:
        In a few words what became of it, for the log.
    """
    try:
        found = office.jobs.acquire(ticket, me(), office.limits.lease, office.limits.attempts)
    except StoreUnreachableError as error:
        log.error("Run %s cannot be taken: %s", ticket.run, error)
        return "the store is away"
    if isinstance(found, Denied):
        log.info("The ticket for run %s is not good: %s.", ticket.run, found.why)
        return f"refused: {found.why}"
    log.info(
        "Run %s: segment %d begins at step %d (attempt %d).", found.run, found.fence, found.position, found.attempt
    )
    with about(run=found.run, segment=found.fence), Heartbeat(office.jobs, found, office.limits, begun) as beat:
        try:
            end = _segment(found, office, beat)
            beat.stop()  # or it would wonder that the run is not held any more
            return _settle(found, office, end)
        except StaleFenceError as error:
            log.warning("Run %s is lost to this worker, which wrote nothing more: %s", found.run, error)
            metrics.count_segment("lost")
            return "lost to another worker"
        except StoreUnreachableError as error:
            log.error("Run %s waits until the store is back: %s", found.run, error)
            return "the store is away"
        except (SpecError, TraceError, CheckpointNameError) as error:  # it would be the same the next time
            failed = _End("FAILED", one_line(error))
            return _try_to(lambda: _settle(found, office, failed), beat)
        except BaseException as error:  # SystemExit too: a workload is not to end the worker
            late = type(error).__name__ == "SoftTimeLimitExceeded"
            problem = (
                f"it took longer than {office.limits.soft:g} s (GRADTRACE_TIME_LIMIT)" if late else one_line(error)
            )
            log.error("Run %s: attempt %d ended with %s", found.run, found.attempt, problem, exc_info=error)
            return _try_to(lambda: _put_back(found, office, graceful=False, problem=problem), beat)


def _segment(grant: Grant, office: Office, beat: Heartbeat) -> _End:
    """Train until the segment, the run or the worker ends; everything is committed then."""
    spec = spec_from_json(grant.spec)
    # Importing torch takes a second or two, and the parent of the worker's processes must not have it.
    from gradtrace.service import checkpoint
    from gradtrace.service.segments import Training, threads

    limits = office.limits
    start = checkpoint.checkpoint_path(office.checkpoints, grant.run, grant.checkpoint) if grant.checkpoint else None
    stored = Neo4jSink.on(office.store, fold=spec.fold, fold_edges=spec.fold_edges)
    sink = PatientSink(stored, limits.patience, lambda: beat.lost or office.stop())
    with threads(spec.threads):
        try:
            sink.set_fence(grant.run, grant.fence)
            training = Training(spec, sink, grant.run, start=start)
            begun, started = training.done, time.monotonic()
            beat.begin(training.done, training.steps)

            def over() -> bool:
                if beat.cancel or beat.lost or office.stop():
                    return True
                if training.done == begun:  # one step at least, or a run of long steps would be put back for ever
                    return False
                many = limits.segment_steps is not None and training.done - begun >= limits.segment_steps
                return many or time.monotonic() - started >= limits.segment

            current = grant.checkpoint
            while True:
                _until_checkpoint(training, limits, over, beat)
                if beat.lost:
                    raise StaleFenceError("another worker holds the run.")
                current = _commit(training, grant, office, beat, current)
                if training.over or over():
                    break
            if training.over:
                sink.note_held_out(grant.run, training.instance.evaluate())
            return _end(training, beat)
        finally:
            sink.close()


def _until_checkpoint(training: Training, limits: Limits, over: Callable[[], bool], beat: Heartbeat) -> None:
    """Train until a checkpoint is due or the segment is over."""
    begun, due = training.done, time.monotonic() + limits.checkpoint
    steps = limits.checkpoint_steps
    training.advance(
        lambda: over() or time.monotonic() >= due or (steps is not None and training.done - begun >= steps), beat.tell
    )


def _commit(training: Training, grant: Grant, office: Office, beat: Heartbeat, current: str | None) -> str | None:
    """Make all that was trained durable: first the steps, then the checkpoint, then the word that it is the current one.

    Returns:
        The name of the current checkpoint.
    """
    from gradtrace.service import checkpoint

    training.sink.flush()
    name = checkpoint.checkpoint_name(training.done, grant.fence)
    if name == current or (current is not None and training.done == _step_of(current)):
        return current
    training.save(checkpoint.checkpoint_path(office.checkpoints, grant.run, name))
    office.jobs.advanced(grant, name, training.done, beat.live)
    keep = (name,) if training.over else (name, current or name)
    checkpoint.prune(office.checkpoints, grant.run, frozenset(keep), grant.fence)
    return name


def _step_of(name: str) -> int:
    return int(name.partition("-")[0])


def _end(training: Training, beat: Heartbeat) -> _End:
    if training.failure:
        return _End("FAILED", training.failure)
    if training.over:
        return _End("FINISHED")
    if beat.cancel:
        return _End("INTERRUPTED", f"cancelled after {training.done} of {training.steps} steps")
    return _End("QUEUED")


def _settle(grant: Grant, office: Office, end: _End) -> str:
    if end.status == "QUEUED":
        return _put_back(grant, office, graceful=True)
    office.jobs.end(grant, end.status, end.reason)
    metrics.count_segment(end.status.lower())
    log.info("Run %s is %s%s.", grant.run, end.status, f": {end.reason}" if end.reason else "")
    return end.status


def _put_back(grant: Grant, office: Office, *, graceful: bool, problem: str | None = None) -> str:
    ticket = office.jobs.release(grant, graceful=graceful, problem=problem)
    metrics.count_segment("more" if graceful else "broken")
    if not graceful:
        metrics.count_retry("segment")
    if not office.enqueue(ticket):
        log.warning("Run %s waits in the store: the queue did not take its ticket. `reap` will see to it.", grant.run)
    return "more to do" if graceful else f"to be tried again: {problem}"


def _try_to(settle: Callable[[], str], beat: Heartbeat) -> str:
    """Write how an attempt ended, unless the store or the lease is gone as well."""
    beat.stop()
    try:
        return settle()
    except (StaleFenceError, StoreUnreachableError) as error:
        log.error("That could not be written: %s", error)
        return "the store is away"
