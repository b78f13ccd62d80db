"""Runs as jobs: who may work on a run, from where, and how often it was tried. Neo4j is the truth; the queue only a hint.

A job is a `Run` with a `spec`. Its `fence` grows by one each time a worker takes it, and whenever it is cancelled or
resumed. A *ticket* (a message of the queue) names a run and the fence at which it was written, so that of all copies of a
ticket one is good for one segment. Every change locks the run first, and is refused to those whose fence is old: Neo4j is
read-committed, and a check without the lock would let a stale writer commit.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar

from neo4j import ManagedTransaction

from gradtrace.service.store.connect import Store
from gradtrace.service.store.driver_errors import translated
from gradtrace.service.store.holders import gone
from gradtrace.service.store.runs import announce
from gradtrace.tracer.errors import StaleFenceError, StoreError, StoreUnreachableError
from gradtrace.tracer.steptrace import RunRecord

T = TypeVar("T")

VANISHED = "its worker vanished without a word (killed, out of memory, or the workload ended the process)"

_LOCK = """
MATCH (r:Run {id: $id}) SET r.lock = $token
RETURN r.status AS status, r.fence AS fence, r.attempts AS attempts, r.spec AS spec, r.checkpoint AS checkpoint,
       coalesce(r.position, 0) AS position, r.holder AS holder, r.problem AS problem, coalesce(r.cancel, false) AS cancel,
       coalesce(r.lease < datetime.realtime(), true) AS expired
"""
_SET = "MATCH (r:Run {id: $id}) SET r += $values"
_TAKE = """
MATCH (r:Run {id: $id})
SET r += $values, r.fence = r.fence + 1, r.lease = datetime.realtime() + duration({milliseconds: $milliseconds})
RETURN r.fence AS fence
"""
_RENEW = """
MATCH (r:Run {id: $id})
SET r += $values, r.lease = datetime.realtime() + duration({milliseconds: $milliseconds})
"""
_END = "MATCH (r:Run {id: $id}) SET r += $values, r.ended = datetime()"
_OPEN_JOBS = """
MATCH (r:Run) WHERE r.status IN ['QUEUED', 'RUNNING'] AND r.spec IS NOT NULL
RETURN r.id AS run, r.fence AS fence, r.status AS status, r.holder AS holder,
       coalesce(r.lease < datetime.realtime(), true) AS expired
ORDER BY r.started, r.id
"""


_LOOK = """
UNWIND $runs AS id
MATCH (r:Run {id: id})
RETURN r.id AS run, r.status AS status, coalesce(r.live_step, r.position, 0) AS step, r.planned AS steps,
       r.live_loss AS loss, r.live_rate AS rate, r.attempts AS attempts, r.fence AS segments,
       coalesce(r.reason, r.problem) AS reason
"""


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to work on a run.

    Attributes:
        run: its id.
        fence: what this worker writes under.
        spec: what to do, as JSON; not yet checked.
        checkpoint: name of the checkpoint to go on from, or None for the start.
        position: optimizer steps that it stands for.
        attempt: which try since the last progress, from 1.
    """

    run: str
    fence: int
    spec: str
    checkpoint: str | None
    position: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Denied:
    """No leave: the ticket is used up, someone works on the run, or it is over. `why` says which."""

    why: str


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a message of the queue says: a run, and the fence at which it may be taken."""

    run: str
    fence: int


class Jobs:
    """The jobs of a store. Safe to share between threads.

    Args:
        store: a connected store.

    Raises:
        StoreUnreachableError: by every method, when the store does not answer.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def submit(self, record: RunRecord, spec: str, steps: int | None = None) -> Ticket:
        """Write a run that waits for a worker.

        Args:
            record: the run; its id must be new.
            spec: what to do, as JSON.
            steps: optimizer steps, if known.

        Raises:
            StoreError: there is a run of this id.
        """
        more = {"status": "QUEUED", "spec": spec, "attempts": 0, "position": 0, "planned": steps}
        if not self._write("submitting a run", announce, record, more):
            raise StoreError(f"There is a run {record.id!r} already; submit under another id.")
        return Ticket(record.id, 0)

    def acquire(self, ticket: Ticket, holder: str, seconds: float, attempts: int) -> Grant | Denied:
        """Take a run for one segment; the attempt is counted here, before any work.

        Args:
            ticket: what came from the queue.
            holder: who takes it (`holders.me`).
            seconds: how long the lease lasts unless renewed.
            attempts: most tries without progress; one more ends the run as FAILED.
        """
        return self._write("taking a run", _acquire, ticket, holder, seconds, attempts)

    def renew(self, grant: Grant, seconds: float, live: Mapping[str, Any]) -> bool:
        """Keep the lease, and tell how far the segment is; whether the run is to be cancelled.

        Raises:
            StaleFenceError: another worker holds the run.
        """
        return self._write("renewing a lease", _renew, grant, seconds, dict(live))

    def advanced(self, grant: Grant, checkpoint: str, position: int, live: Mapping[str, Any]) -> None:
        """Make a checkpoint the current one; that is progress, so attempts count from 0 again.

        Raises:
            StaleFenceError: another worker holds the run.
        """
        values = {**live, "checkpoint": checkpoint, "position": position, "problem": None}
        if position > grant.position:
            values["attempts"] = 0
        self._write("moving a run on", _change, grant, values)

    def note(self, grant: Grant, problem: str) -> None:
        """Note what went wrong, before the process may be gone."""
        self._write("noting a problem", _change, grant, {"problem": problem})

    def release(self, grant: Grant, *, graceful: bool, problem: str | None = None) -> Ticket:
        """Put a run back for any worker; `graceful` takes the attempt back that `acquire` counted.

        Raises:
            StaleFenceError: another worker holds the run.
        """
        values: dict[str, Any] = {"status": "QUEUED", "holder": None, "lease": None, "problem": problem}
        if graceful:
            values["attempts"] = 0
        self._write("putting a run back", _change, grant, values)
        return Ticket(grant.run, grant.fence)

    def end(self, grant: Grant, status: str, reason: str | None) -> None:
        """End a run as `FINISHED`, `INTERRUPTED` or `FAILED`.

        Raises:
            StaleFenceError: another worker holds the run.
        """
        values = {"status": status, "reason": reason, "holder": None, "lease": None, "cancel": None}
        self._write("ending a run", _change, grant, values, _END)

    def cancel(self, run: str) -> str:
        """End a run that waits, or have the worker that holds it stop at its next step.

        Returns:
            `"cancelled"`, `"stopping"`, or the status of a run that was over already.

        Raises:
            StoreError: there is no such run, or it is trained by `gradtrace run`.
        """
        return self._write("cancelling a run", _cancel, run)

    def resume(self, run: str, *, from_start: bool = False) -> Ticket:
        """Queue a run again that was interrupted or failed, or whose place in the queue may be lost.

        Args:
            run: its id.
            from_start: forget its checkpoints; steps that are stored stay as they are.

        Raises:
            StoreError: there is no such run, it was not submitted, it is finished, or a worker holds it.
        """
        return self._write("resuming a run", _resume, run, from_start)

    def look(self, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
        """How far runs are: status, step, steps, loss, rate (steps a second), attempts, segments, reason; by id."""
        rows = self._run("looking at runs", lambda tx: tx.run(_LOOK, runs=list(runs)).data())
        return {row["run"]: row for row in rows}

    def waiting(self) -> list[Ticket]:
        """Tickets of all runs that could be taken now: queued ones, and those whose worker is gone."""
        rows = self._run("looking for runs", lambda tx: tx.run(_OPEN_JOBS).data())
        return [
            Ticket(r["run"], r["fence"]) for r in rows if r["status"] == "QUEUED" or r["expired"] or gone(r["holder"])
        ]

    def _write(self, doing: str, work: Callable[..., T], *arguments: Any) -> T:
        return self._run(doing, lambda tx: work(tx, *arguments), write=True)

    def _run(self, doing: str, work: Callable[[ManagedTransaction], T], *, write: bool = False) -> T:
        """Run a transaction; where the embedded server went away, find it again first."""
        try:
            return self._try(doing, work, write)
        except StoreUnreachableError:
            if not self._store.find_again():
                raise
            return self._try(doing, work, write)

    def _try(self, doing: str, work: Callable[[ManagedTransaction], T], write: bool) -> T:
        where = f"the store at {self._store.uri}"
        with translated(doing, where), self._store.driver.session(database=self._store.database) as session:
            return session.execute_write(work) if write else session.execute_read(work)


def _locked(tx: ManagedTransaction, run: str) -> dict[str, Any] | None:
    found = tx.run(_LOCK, id=run, token=secrets.token_hex(8)).single()
    return None if found is None else dict(found)


def _acquire(tx: ManagedTransaction, ticket: Ticket, holder: str, seconds: float, most: int) -> Grant | Denied:
    run = _locked(tx, ticket.run)
    if run is None:
        return Denied("the store holds no such run")
    if run["spec"] is None:
        return Denied("it was not submitted, but is trained by `gradtrace run`")
    if run["status"] == "QUEUED":
        if ticket.fence != run["fence"]:
            return Denied(f"the ticket is of fence {ticket.fence}, and the run waits at {run['fence']}")
    elif run["status"] == "RUNNING":
        # A redelivered ticket is one behind the fence that its first delivery raised.
        if ticket.fence not in (run["fence"], run["fence"] - 1):
            return Denied(f"the ticket is of fence {ticket.fence}, and the run is at {run['fence']}")
        if not (run["expired"] or gone(run["holder"])):
            return Denied("a worker holds it")
    else:
        return Denied(f"it is {run['status']}")
    if run["cancel"]:
        _finish(tx, ticket.run, "INTERRUPTED", "cancelled")
        return Denied("it was cancelled")
    if run["attempts"] >= most:
        last = run["problem"] or VANISHED
        tries = f"{run['attempts']} attempt{'s' if run['attempts'] > 1 else ''}"
        _finish(tx, ticket.run, "FAILED", f"no progress in {tries}; the last one: {last}")
        return Denied(f"it failed: {last}")
    values = {"status": "RUNNING", "holder": holder, "attempts": run["attempts"] + 1, "problem": None}
    taken = tx.run(_TAKE, id=ticket.run, values=values, milliseconds=int(seconds * 1000)).single(strict=True)
    return Grant(
        ticket.run, taken["fence"], run["spec"], run["checkpoint"], run["position"], attempt=run["attempts"] + 1
    )


def _held(tx: ManagedTransaction, grant: Grant) -> dict[str, Any]:
    """The run, locked, if this worker holds it."""
    run = _locked(tx, grant.run)
    if run is None:
        raise StaleFenceError(f"The run {grant.run!r} is no more in the store.")
    if run["fence"] != grant.fence or run["status"] != "RUNNING":
        raise StaleFenceError(
            f"This worker holds fence {grant.fence} of run {grant.run!r}, and the run is {run['status']} at fence "
            f"{run['fence']}: another worker took it over, or someone ended it."
        )
    return run


def _renew(tx: ManagedTransaction, grant: Grant, seconds: float, live: dict[str, Any]) -> bool:
    run = _held(tx, grant)
    tx.run(_RENEW, id=grant.run, values=live, milliseconds=int(seconds * 1000)).consume()
    return bool(run["cancel"])


def _change(tx: ManagedTransaction, grant: Grant, values: dict[str, Any], statement: LiteralString = _SET) -> None:
    _held(tx, grant)
    tx.run(statement, id=grant.run, values=values).consume()


def _finish(tx: ManagedTransaction, run: str, status: str, reason: str) -> None:
    """End a run that no worker holds; from then on no ticket and no writer of it is good any more."""
    values = {"status": status, "reason": reason, "holder": None, "lease": None, "cancel": None}
    tx.run(_END + ", r.fence = r.fence + 1", id=run, values=values).consume()


def _cancel(tx: ManagedTransaction, run: str) -> str:
    found = _job(tx, run)
    if found["status"] == "RUNNING" and not (found["expired"] or gone(found["holder"])):
        tx.run(_SET, id=run, values={"cancel": True}).consume()
        return "stopping"
    if found["status"] not in ("QUEUED", "RUNNING"):
        return str(found["status"])
    _finish(tx, run, "INTERRUPTED", "cancelled")
    return "cancelled"


def _resume(tx: ManagedTransaction, run: str, from_start: bool) -> Ticket:
    found = _job(tx, run)
    if found["status"] == "FINISHED":
        raise StoreError(f"Run {run!r} is finished; there is nothing to resume. Submit a new one.")
    if found["status"] == "RUNNING" and not (found["expired"] or gone(found["holder"])):
        raise StoreError(f"A worker holds run {run!r} right now; `gradtrace watch {run}` shows it.")
    fence = found["fence"] + 1
    values: dict[str, Any] = {"status": "QUEUED", "fence": fence, "attempts": 0}
    values |= dict.fromkeys(("reason", "ended", "problem", "holder", "lease", "cancel"))
    if from_start:
        values |= {"checkpoint": None, "position": 0}
    tx.run(_SET, id=run, values=values).consume()
    return Ticket(run, fence)


def _job(tx: ManagedTransaction, run: str) -> dict[str, Any]:
    found = _locked(tx, run)
    if found is None:
        raise StoreError(f"The store holds no run {run!r}. `gradtrace runs` lists those there are.")
    if found["spec"] is None:
        raise StoreError(
            f"Run {run!r} was not submitted but trained by `gradtrace run`, in a process of its own: end it there with "
            "Ctrl-C. Only submitted runs can be cancelled and resumed."
        )
    return found
