"""Drop the detail of steps that nobody looks at any more, and keep what they add up to.

A pruned step stays as a node with its number, epoch and loss, so that it still counts as seen: sent again, it is not
written again. Its traces go, with all that hangs on them, and its arrays. Runs, epochs and rollups stay as they are.
Of its scalar graph, if it has one, the scalars go afterwards, in transactions of bounded size: from the moment at which the step
counts as pruned no question reads them, and what an interrupted prune leaves of them goes with the next one. Likewise the drafts
of scalar graphs that writers left which were killed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from neo4j import Driver, ManagedTransaction, Session
from neo4j.exceptions import ConstraintError

from gradtrace.service.store.driver_errors import translated
from gradtrace.service.store.expand import delete_weighed
from gradtrace.service.store.prune_scalars import drop_graphs, graphs_of, old_drafts
from gradtrace.tracer.errors import SpecError, StoreError

_OPEN = ("RUNNING", "QUEUED")
_STEPS = 10
_ORPHANS = 200
_TRIES = 3

_RUNS = """
MATCH (r:Run)-[:IN]->(x:Experiment)
WHERE ($runs IS NULL OR r.id IN $runs) AND ($experiments IS NULL OR x.name IN $experiments)
  AND ($runs IS NOT NULL OR NOT r.status IN $open)
  AND ($days IS NULL OR coalesce(r.ended, r.updated, r.started) < datetime() - duration({seconds: $days * 86400}))
RETURN r.id AS id ORDER BY id
"""
_KNOWN_RUNS = "UNWIND $runs AS id MATCH (r:Run {id: id}) RETURN r.id"
_KNOWN_EXPERIMENTS = "UNWIND $names AS name MATCH (x:Experiment {name: name}) RETURN x.name"
_HELD = """
MATCH (s:Step) WHERE s.run = $run AND s.step >= $least
RETURN s.key AS key, s.pruned IS NOT NULL AS pruned ORDER BY s.step
"""
_WEIGH = """
UNWIND $keys AS key
MATCH (s:Step {key: key})
CALL (s) {
    MATCH (s)-[:HAS_TRACE]->(t:Trace)
    RETURN count(*) AS traces, sum(COUNT { (t)--() }) AS relationships
}
RETURN sum(traces) AS traces, sum(relationships + COUNT { (s)-[:SPREAD|SPREAD_IN]->() }) AS relationships
"""
_LOCK = "MATCH (r:Run {id: $run}) SET r.lock = $token"
_DROP = """
UNWIND $keys AS key
MATCH (s:Step {key: key}) WHERE s.pruned IS NULL
MATCH (s)-[:HAS_TRACE]->(t:Trace)
DETACH DELETE t
"""
_DROP_SPREADS = """
UNWIND $keys AS key
MATCH (s:Step {key: key})-[x:SPREAD|SPREAD_IN]->() WHERE s.pruned IS NULL
DELETE x
"""
_MARK = """
UNWIND $keys AS key
MATCH (s:Step {key: key}) WHERE s.pruned IS NULL
SET s.pruned = datetime()
REMOVE s.flow, s.peak, s.watched
WITH count(*) AS steps
MATCH (r:Run {id: $run}) SET r.pruned = coalesce(r.pruned, 0) + steps
RETURN steps
"""
# A writer stores paths and routes a moment before the steps that refer to them.
_BUSY = """
MATCH (r:Run) WHERE coalesce(r.updated, r.started) > datetime() - duration({minutes: $minutes})
RETURN count(r) > 0
"""
_QUIET_MINUTES = 10
_DRAFT_MINUTES = 120
_PAGE = "MATCH (n:{label}) WHERE n.hash > $after WITH n.hash AS hash ORDER BY hash LIMIT $page RETURN collect(hash)"
_FREE = {
    "Path": "NOT EXISTS { (n)<-[:DOMINANT|FOLLOWS]-() }",
    "Route": "NOT EXISTS { (n)<-[:TOP|TOOK|TAKES]-() }",
}
_COUNT_ORPHANS = "UNWIND $hashes AS hash MATCH (n:{label} {{hash: hash}}) WHERE {free} RETURN count(*)"
# Not DETACH DELETE: should a writer refer to the node meanwhile, the deletion must fail, not take the reference away.
_DELETE_ORPHANS = """
UNWIND $hashes AS hash
MATCH (n:{label} {{hash: hash}}) WHERE {free}
CALL (n) {{ OPTIONAL MATCH (n)-[x]->() DELETE x }}
DELETE n
"""


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """Which steps lose their detail: those of the chosen runs that no `keep` protects.

    Attributes:
        runs, experiments: only these; empty for all. Runs that have not ended are left alone unless `runs` names them.
        older_than: only runs that ended (or were last written to) more than so many days ago.
        keep_last: the last so many stored steps of each run keep their detail.
        keep_every: the first stored step of each run and every so many-th after it keep their detail.
    """

    runs: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    older_than: float | None = None
    keep_last: int | None = None
    keep_every: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("older_than", 0), ("keep_last", 0), ("keep_every", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise SpecError(f"{name} is {value}; it must be {least} or more.")
        numbers = (self.older_than, self.keep_last, self.keep_every)
        if not (self.runs or self.experiments or any(n is not None for n in numbers)):
            raise SpecError(
                "Nothing says what to prune. Name runs, experiments or an age, or say which steps keep their detail "
                "(keep_last, keep_every)."
            )

    def chosen(self, keys: Sequence[str]) -> list[str]:
        """Of a run's steps in order, those that are not protected.

        >>> PrunePolicy(keep_last=2, keep_every=3).chosen(list("abcdefgh"))
        ['b', 'c', 'e', 'f']
        """
        last = len(keys) - (self.keep_last or 0)
        return [k for n, k in enumerate(keys) if n < last and not (self.keep_every and n % self.keep_every == 0)]


@dataclass
class Pruned:
    """What was dropped, or with `dry_run` would be.

    Attributes:
        steps: by run, how many steps lose their detail; runs without any are left out.
        traces, scalars, relationships: how many go with them.
        paths, routes: nodes that nothing refers to. A dry run counts those that are free already.
        busy: a run was written to in the last ten minutes, so that free paths and routes were left for another time.
    """

    steps: dict[str, int] = field(default_factory=dict)
    traces: int = 0
    scalars: int = 0
    relationships: int = 0
    paths: int = 0
    routes: int = 0
    busy: bool = False

    def add(self, scalars: tuple[int, int]) -> None:
        """Count scalars and relationships that went."""
        self.scalars += scalars[0]
        self.relationships += scalars[1]


def prune(
    driver: Driver,
    policy: PrunePolicy,
    database: str | None = "neo4j",
    *,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Pruned:
    """Drop the detail of the steps that `policy` chooses, in small transactions; safe while runs are written.

    Interrupted, it leaves whole steps and pruned steps, and can be run again.

    Args:
        driver, database: the store.
        dry_run: count only.
        progress: called with a run, the steps of it that are done, and how many there are.

    Raises:
        StoreError: a run or experiment that is named does not exist, or the store cannot be reached.

    Example:
        >>> prune(store.driver, PrunePolicy(older_than=30, keep_every=100))     # doctest: +SKIP
    """
    done = Pruned()
    with translated("pruning"), driver.session(database=database, notifications_min_severity="OFF") as session:
        _check_names(session, policy)
        runs = session.execute_read(
            _column,
            _RUNS,
            runs=list(policy.runs) or None,
            experiments=list(policy.experiments) or None,
            days=policy.older_than,
            open=_OPEN,
        )
        for run in runs:
            held = session.execute_read(_rows, _HELD, run=run, least=-(2**62))
            gone = {key for key, pruned in held if pruned}
            left = graphs_of(session, list(gone))  # by an interrupted prune
            done.add(drop_graphs(session, left, dry_run))
            keys = [key for key in policy.chosen([key for key, _ in held]) if key not in gone]
            for start in range(0, len(keys), _STEPS):
                part = keys[start : start + _STEPS]
                if dry_run:
                    ((traces, relationships),) = session.execute_read(_rows, _WEIGH, keys=part)
                    count = len(part)
                else:
                    count, traces, relationships = session.execute_write(_drop, run, part)
                done.add(drop_graphs(session, graphs_of(session, part), dry_run))
                if count:
                    done.steps[run] = done.steps.get(run, 0) + count
                done.traces += traces
                done.relationships += relationships
                if progress is not None:
                    progress(run, min(len(keys), start + _STEPS), len(keys))
        (done.busy,) = session.execute_read(_column, _BUSY, minutes=_QUIET_MINUTES)
        done.add(drop_graphs(session, old_drafts(session, _DRAFT_MINUTES), dry_run))
        if not done.busy:
            done.paths = _orphans(session, "Path", dry_run)
            done.routes = _orphans(session, "Route", dry_run)
    return done


def _check_names(session: Session, policy: PrunePolicy) -> None:
    for what, names, statement in (
        ("run", policy.runs, _KNOWN_RUNS),
        ("experiment", policy.experiments, _KNOWN_EXPERIMENTS),
    ):
        key = "runs" if what == "run" else "names"
        held = set(session.execute_read(_column, statement, **{key: list(names)}))
        for name in names:
            if name not in held:
                raise StoreError(f"The store holds no {what} {name!r}; `gradtrace runs` lists what it holds.")


def _drop(tx: ManagedTransaction, run: str, keys: list[str]) -> tuple[int, int, int]:
    """Steps, traces and relationships that were dropped, under the run's lock."""
    tx.run(_LOCK, run=run, token=secrets.token_hex(8)).consume()
    beside = tx.run(_DROP_SPREADS, keys=keys).consume().counters.relationships_deleted
    beside += delete_weighed(tx, keys)
    counters = tx.run(_DROP, keys=keys).consume().counters
    record = tx.run(_MARK, run=run, keys=keys).single()
    return (record["steps"] if record else 0), counters.nodes_deleted, beside + counters.relationships_deleted


def _orphans(session: Session, label: str, dry_run: bool) -> int:
    """Count, or delete, the nodes of a label that nothing refers to, page by page."""
    page = _PAGE.format(label=label)
    statement = (_COUNT_ORPHANS if dry_run else _DELETE_ORPHANS).format(label=label, free=_FREE[label])
    total, after = 0, ""
    while True:
        (hashes,) = session.execute_read(_column, page, after=after, page=_ORPHANS)
        if not hashes:
            return total
        after = hashes[-1]
        if dry_run:
            total += session.execute_read(_column, statement, hashes=hashes)[0]
        else:
            total += _delete(session, statement, hashes)


def _delete(session: Session, statement: str, hashes: list[str]) -> int:
    for attempt in range(_TRIES):
        try:
            return session.execute_write(_deleted, statement, hashes)
        except ConstraintError:  # a writer has come to refer to one of them: look again
            if attempt == _TRIES - 1:
                return 0  # they are in use; the next prune comes by again
    return 0


def _deleted(tx: ManagedTransaction, statement: str, hashes: list[str]) -> int:
    return tx.run(statement, hashes=hashes).consume().counters.nodes_deleted


def _column(tx: ManagedTransaction, /, statement: str, **parameters: Any) -> list[Any]:
    return [record[0] for record in tx.run(statement, **parameters)]


def _rows(tx: ManagedTransaction, /, statement: str, **parameters: Any) -> list[list[Any]]:
    return [record.values() for record in tx.run(statement, **parameters)]
