"""Rollups: what questions over whole runs would otherwise sum from every step.

`(:Run)-[:FOLLOWS]->(:Path)`, `(:Run)-[:TOOK]->(:Route)`, `(:Run)-[:EPOCH_SHARE]->(:Component)` and
`(:Run)-[:HAS_EPOCH]->(:Epoch)` are kept in the transaction that creates the steps they count, under the run's write
lock, and so count every visible step exactly once. They can be rebuilt from the steps, unless steps were pruned: then
they hold what the steps no longer do, and stay as they are.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
from neo4j import Driver, ManagedTransaction

from gradtrace.service.store.driver_errors import translated
from gradtrace.service.store.epoch_shares import arrange_shares
from gradtrace.service.store.keys import digest, epoch_key
from gradtrace.service.store.plans import run_planned
from gradtrace.service.store.totals import EPOCH_ARRAYS, SHARE_SUMS, EpochTotal, Totals, totals_of
from gradtrace.tracer.errors import StoreError, StoreIntegrityError
from gradtrace.tracer.steptrace import StepTrace

_PAGE = 50
_RUN_STEPS = """
UNWIND $rows AS r
MATCH (run:Run {id: r[0]})
SET run.steps = coalesce(run.steps, 0) + r[1], run.updated = datetime(),
    run.first_step = CASE WHEN run.first_step <= r[2] THEN run.first_step ELSE r[2] END,
    run.last_step = CASE WHEN run.last_step >= r[3] THEN run.last_step ELSE r[3] END
"""
_ADD_FOLLOWS = """
UNWIND $rows AS r
MATCH ()-[f:FOLLOWS {key: r[0]}]->() USING INDEX f:FOLLOWS(key)
SET f.steps = f.steps + r[6], f.mass = f.mass + r[7],
    f.first = CASE WHEN f.first <= r[8] THEN f.first ELSE r[8] END,
    f.last = CASE WHEN f.last >= r[9] THEN f.last ELSE r[9] END
RETURN r[0]
"""
_CREATE_FOLLOWS = """
UNWIND $rows AS part
MATCH (run:Run {id: part[0]})
UNWIND part[1] AS r
MATCH (p:Path {hash: r[5]})
CREATE (run)-[:FOLLOWS {key: r[0], mode: r[2], batch: r[3], parameter: r[4], steps: r[6], mass: r[7], first: r[8],
                        last: r[9]}]->(p)
"""
# No key of their own: a parameter takes few routes in an epoch, and the index by which questions find these finds them here.
_ADD_ROUTES = """
UNWIND $groups AS g
MATCH ()-[t:TOOK]->(n) USING INDEX t:TOOK(run, epoch, parameter, mode, batch)
WHERE t.run = g[0] AND t.epoch = g[1] AND t.parameter = g[2] AND t.mode = g[3] AND t.batch = g[4]
WITH t, g[5][n.hash] AS r
WHERE r IS NOT NULL
WITH r, collect(t)[0] AS t
SET t.steps = t.steps + r[1], t.traffic = t.traffic + r[2], t.mass = t.mass + r[3],
    t.rank = CASE WHEN t.rank <= r[4] THEN t.rank ELSE r[4] END,
    t.first = CASE WHEN t.first <= r[5] THEN t.first ELSE r[5] END,
    t.last = CASE WHEN t.last >= r[6] THEN t.last ELSE r[6] END
RETURN r[0]
"""
_CREATE_ROUTES = """
UNWIND $rows AS taken
MATCH (run:Run {id: taken[0]})
UNWIND taken[1] AS part
MATCH (n:Route {hash: part[0]})
UNWIND part[1] AS r
CREATE (run)-[:TOOK {run: taken[0], mode: r[0], batch: r[1], epoch: r[2], parameter: r[3], steps: r[4], traffic: r[5],
                     mass: r[6], rank: r[7], first: r[8], last: r[9]}]->(n)
"""
_SUMS = 9
_ADD_SHARES = f"""
UNWIND $rows AS r
MATCH ()-[e:EPOCH_SHARE {{key: r[0]}}]->() USING INDEX e:EPOCH_SHARE(key)
SET e.share = (e.share * e.steps + r[7]) / (e.steps + r[6]), e.visits = (e.visits * e.steps + r[8]) / (e.steps + r[6]),
    e.steps = e.steps + r[6], {", ".join(f"e.{name} = e.{name} + r[{n}]" for n, name in enumerate(SHARE_SUMS, _SUMS))}
RETURN r[0]
"""
_CREATE_SHARES = f"""
UNWIND $rows AS part
MATCH (run:Run {{id: part[0]}})
UNWIND part[1] AS r
MATCH (c:Component {{key: r[5]}})
CREATE (run)-[:EPOCH_SHARE {{key: r[0], run: r[1], mode: r[2], batch: r[3], epoch: r[4], steps: r[6],
    share: r[7] / r[6], visits: r[8] / r[6], {", ".join(f"{name}: r[{n}]" for n, name in enumerate(SHARE_SUMS, _SUMS))}}}]->(c)
"""
_READ_EPOCHS = "UNWIND $keys AS key MATCH (e:Epoch {key: key}) RETURN e.key AS key, properties(e) AS held"
_WRITE_EPOCHS = "UNWIND $rows AS r MATCH (e:Epoch {key: r.key}) SET e += r"
_CREATE_EPOCHS = """
UNWIND $rows AS r
MATCH (run:Run {id: r.run}) MATCH (g:Graph {fingerprint: r.graph})
CREATE (run)-[:HAS_EPOCH]->(e:Epoch)-[:ON]->(g)
SET e = r
"""
_LOCK = "MATCH (r:Run {id: $run}) SET r.lock = $token RETURN coalesce(r.pruned, 0) AS pruned"
_FORGET = (
    "MATCH (:Run {id: $run})-[f:FOLLOWS]->() DELETE f",
    "MATCH (:Run {id: $run})-[t:TOOK]->() DELETE t",
    "MATCH (:Run {id: $run})-[e:EPOCH_SHARE]->() DELETE e",
    "MATCH (:Run {id: $run})-[:HAS_EPOCH]->(e:Epoch) DETACH DELETE e",
    "MATCH (r:Run {id: $run}) REMOVE r.steps, r.first_step, r.last_step",
)
_READ_STEPS = """
MATCH (s:Step) WHERE s.run = $run AND s.step > $after
WITH s ORDER BY s.step LIMIT $page
MATCH (s)-[:HAS_TRACE]->(t:Trace)-[:ON]->(g:Graph)
RETURN s.step AS step, s.epoch AS epoch, t.mode AS mode, t.batch AS batch, g.fingerprint AS graph, t.loss AS loss,
       t.non_finite AS non_finite, coalesce(t.flow, s.flow) AS flow, coalesce(t.peak, s.peak) AS peak,
       t.traffic AS traffic, t.mass AS mass,
       COLLECT { MATCH (t)-[l:LEFT]->() RETURN l.mass } AS masses,
       COLLECT { MATCH (t)-[d:DOMINANT]->(p:Path) RETURN [d.parameter, p.hash, d.mass] } AS dominant,
       COLLECT { MATCH (t)-[x:TOP]->(n:Route) RETURN [x.parameter, n.hash, x.traffic, x.mass, x.rank] } AS routes,
       COLLECT { MATCH (t)-[c:CARRIES]->(k:Component)
                 RETURN [k.key, c.share, c.visits, c.mass, c.traffic, c.own, c.foreign, c.contested, c.won, c.flow]
       } AS carries
ORDER BY step, mode, batch
"""


def update_rollups(tx: ManagedTransaction, steps: Sequence[StepTrace]) -> int:
    """Count `steps`, which this transaction created; return the number of nodes and relationships that it created.

    The caller must hold the write locks of their runs.
    """
    return _add(tx, totals_of(steps))


def rebuild_rollups(driver: Driver, run: str, database: str | None = "neo4j") -> None:
    """Make the rollups of `run` anew from its steps, in one transaction that holds the run's lock meanwhile.

    Raises:
        StoreError: there is no such run, steps of it were pruned, or the store cannot be reached.
    """
    with translated("rebuilding rollups"), driver.session(database=database) as session:
        session.execute_write(_rebuild, run)


def _rebuild(tx: ManagedTransaction, run: str) -> None:
    if pruned := lock_run(tx, run):
        raise StoreError(
            f"The rollups of run {run!r} cannot be made anew: {pruned} of its steps were pruned, and only the "
            "rollups still hold what these add up to. They stay as they are."
        )
    replace_rollups(tx, run, stored_totals(tx, run))


def lock_run(tx: ManagedTransaction, run: str) -> int:
    """Keep every writer of a run waiting until this transaction ends; how many of its steps were pruned.

    Raises:
        StoreError: there is no such run.
    """
    locked = tx.run(_LOCK, run=run, token=secrets.token_hex(8)).single()
    if locked is None:
        raise StoreError(f"The store holds no run {run!r}; `gradtrace runs` lists those it holds.")
    return int(locked["pruned"])


def stored_totals(tx: ManagedTransaction, run: str) -> Totals:
    """What the steps of a run that have their detail add up to, read in pages."""
    totals, after = Totals(), -(2**62)
    while page := list(tx.run(_READ_STEPS, run=run, after=after, page=_PAGE)):
        for record in page:
            _take(totals, run, record)
        after = page[-1]["step"]
    return totals


def replace_rollups(tx: ManagedTransaction, run: str, totals: Totals) -> None:
    """Put `totals` in the place of the rollups of a run."""
    for statement in _FORGET:
        tx.run(statement, run=run).consume()
    if totals.steps:
        _add(tx, totals)


def _take(totals: Totals, run: str, record: Any) -> None:
    step, epoch = record["step"], record["epoch"]
    head = (run, record["mode"], record["batch"])
    seen = totals.steps.setdefault(run, [])
    if step not in seen[-1:]:
        seen.append(step)
    for parameter, path, mass in record["dominant"]:
        totals.add_dominant(head, step, parameter, path, mass)
    for parameter, route, traffic, mass, rank in record["routes"]:
        totals.add_route(head, epoch, step, parameter, route, traffic, mass, rank)
    whole = math.fsum(m for m in record["masses"] if math.isfinite(m))
    for key, share, visits, mass, *rest in record["carries"]:
        totals.add_share(head, epoch, key, share, visits, (mass, whole, *rest))
    arrays = {name: epoch_array(name, record[name]) for name in EPOCH_ARRAYS}
    totals.add_arrays(head, epoch, record["graph"], step, record["loss"], record["non_finite"], arrays)


def epoch_array(name: str, values: list[float]) -> np.ndarray:
    """An array of an epoch or a trace as it came from the store."""
    return np.array(values, np.int64 if name == "traffic" else np.float64)


def _add(tx: ManagedTransaction, totals: Totals) -> int:
    follows = [
        [digest(*key), *key, t.steps, t.mass, t.first, t.last]
        for key, t in sorted(totals.paths.items(), key=lambda item: item[0])
    ]
    routes = [
        [*key, t.steps, t.traffic, t.mass, t.rank, t.first, t.last]
        for key, t in sorted(totals.routes.items(), key=lambda item: item[0])
    ]
    shares = [
        [digest(*key), *key, t.steps, t.share, t.visits, *t.sums]
        for key, t in sorted(totals.shares.items(), key=lambda item: item[0])
    ]
    runs = [[run, len(steps), min(steps), max(steps)] for run, steps in sorted(totals.steps.items())]
    run_planned(tx, _RUN_STEPS, rows=runs).consume()
    created = _upsert(tx, "paths followed", follows, _ADD_FOLLOWS, _CREATE_FOLLOWS)
    created += _upsert_routes(tx, routes)
    created += _upsert(tx, "shares of an epoch", shares, _ADD_SHARES, _CREATE_SHARES)
    created += _add_epochs(tx, totals)
    arrange_shares(tx, ((run, epoch, mode, batch) for run, epoch, mode, batch, _ in totals.epochs))
    return created


def _upsert(tx: ManagedTransaction, what: str, rows: list[list[Any]], add: str, create: str) -> int:
    there = {record[0] for record in run_planned(tx, add, rows=rows)}
    new: dict[str, list[list[Any]]] = {}
    for row in rows:
        if row[0] not in there:
            new.setdefault(row[1], []).append(row)
    return _create(tx, what, create, [list(part) for part in new.items()], len(rows) - len(there))


def _upsert_routes(tx: ManagedTransaction, rows: list[list[Any]]) -> int:
    groups: dict[tuple[Any, ...], dict[str, list[Any]]] = {}
    for at, (run, mode, batch, epoch, parameter, route, *sums) in enumerate(rows):
        groups.setdefault((run, epoch, parameter, mode, batch), {})[route] = [at, *sums]
    found = run_planned(tx, _ADD_ROUTES, groups=[[*group, part] for group, part in groups.items()])
    there = {record[0] for record in found}
    taken: dict[str, dict[str, list[list[Any]]]] = {}
    for at, (run, mode, batch, epoch, parameter, route, *sums) in enumerate(rows):
        if at not in there:
            taken.setdefault(run, {}).setdefault(route, []).append([mode, batch, epoch, parameter, *sums])
    new = [[run, [list(part) for part in by_route.items()]] for run, by_route in taken.items()]
    return _create(tx, "routes taken", _CREATE_ROUTES, new, len(rows) - len(there))


def _create(tx: ManagedTransaction, what: str, statement: str, rows: list[list[Any]], expected: int) -> int:
    if rows:
        made = run_planned(tx, statement, rows=rows).consume().counters.relationships_created
        _expect(what, made, expected)
    return expected


def _add_epochs(tx: ManagedTransaction, totals: Totals) -> int:
    keys = {epoch_key(*key): key for key in sorted(totals.epochs)}
    held = {record["key"]: record["held"] for record in run_planned(tx, _READ_EPOCHS, keys=list(keys))}
    rows = [_epoch(name, key, totals.epochs[key], held.get(name)) for name, key in keys.items()]
    run_planned(tx, _WRITE_EPOCHS, rows=[row for row in rows if row["key"] in held]).consume()
    new = [row for row in rows if row["key"] not in held]
    if new:
        counters = run_planned(tx, _CREATE_EPOCHS, rows=new).consume().counters
        _expect("epochs", counters.nodes_created + counters.relationships_created, 3 * len(new))
    return 3 * len(new)


def _epoch(
    name: str, key: tuple[str, int, str, str, str], total: EpochTotal, held: dict[str, Any] | None
) -> dict[str, Any]:
    run, epoch, mode, batch, fingerprint = key
    row: dict[str, Any] = {
        "key": name,
        "run": run,
        "epoch": epoch,
        "mode": mode,
        "batch": batch,
        "graph": fingerprint,
        "steps": total.steps,
        "finite_losses": total.finite_losses,
        "loss": total.loss,
        "non_finite": total.non_finite,
        "first": total.first,
        "last": total.last,
    }
    if held is not None:
        for column in ("steps", "finite_losses", "non_finite"):
            row[column] += held[column]
        row["loss"] += held["loss"] * held["finite_losses"] if held["finite_losses"] else 0.0
        row["first"], row["last"] = min(row["first"], held["first"]), max(row["last"], held["last"])
        total.merge({a: epoch_array(a, held[a]) for a in EPOCH_ARRAYS})
    row["loss"] = row["loss"] / row["finite_losses"] if row["finite_losses"] else math.nan
    return row | {a: total.arrays[a].tolist() for a in EPOCH_ARRAYS}


def _expect(what: str, made: int, expected: int) -> None:
    if made != expected:
        raise StoreIntegrityError(
            f"Writing {what} created {made} nodes and relationships instead of {expected}; it was rolled back. "
            "Is another program changing the store?"
        )
