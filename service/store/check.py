"""Are the rollups of a run what its steps add up to? Read what is kept, add the steps up anew, and compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from neo4j import Driver, ManagedTransaction

from gradtrace.service.store.driver_errors import translated
from gradtrace.service.store.epoch_shares import arrange_shares, epochs_astray
from gradtrace.service.store.rollups import epoch_array, lock_run, replace_rollups, stored_totals
from gradtrace.service.store.totals import (
    EPOCH_ARRAYS,
    SHARE_SUMS,
    EpochTotal,
    PathTotal,
    RouteTotal,
    ShareTotal,
    Totals,
)

_CLOSE = 1e-9
"""Relative difference up to which two sums count as equal: steps are added up in another order than they came in."""
_QUOTED = 3

_RUNS = "MATCH (r:Run) RETURN r.id ORDER BY r.id"
_STEPS = """
MATCH (r:Run {id: $run})
OPTIONAL MATCH (s:Step) WHERE s.run = $run
RETURN coalesce(r.steps, 0) AS kept, r.first_step AS first, r.last_step AS last, count(s) AS steps,
       min(s.step) AS least, max(s.step) AS greatest
"""
_FOLLOWS = """
MATCH (:Run {id: $run})-[f:FOLLOWS]->(p:Path)
RETURN [f.mode, f.batch, f.parameter, p.hash] AS key, f.steps AS steps, f.mass AS mass, f.first AS first, f.last AS last
"""
# Rows that a migration made stand beside those of later steps: they are one.
_TOOK = """
MATCH (:Run {id: $run})-[t:TOOK]->(n:Route)
RETURN [t.mode, t.batch, t.epoch, t.parameter, n.hash] AS key, sum(t.steps) AS steps, sum(t.traffic) AS traffic,
       sum(t.mass) AS mass, min(t.rank) AS rank, min(t.first) AS first, max(t.last) AS last
"""
_SHARES = """
MATCH (:Run {id: $run})-[e:EPOCH_SHARE]->(c:Component)
RETURN [e.mode, e.batch, e.epoch, c.key] AS key, properties(e) AS held
"""
_EPOCHS = """
MATCH (:Run {id: $run})-[:HAS_EPOCH]->(e:Epoch)-[:ON]->(g:Graph)
RETURN [e.epoch, e.mode, e.batch, g.fingerprint] AS key, properties(e) AS held
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """What looking at the rollups of a run found.

    Attributes:
        run: its id.
        steps: how many steps it has, pruned ones included.
        pruned: how many of them lost their detail. Only the rollups still hold what these add up to, so that of such a
            run no number may be less than what the other steps add up to, and no more can be said.
        wrong: how many kept numbers or rows differ.
        examples: the first of them in words.
        rebuilt: the rollups were made anew, and are true now.
    """

    run: str
    steps: int
    pruned: int
    wrong: int
    examples: tuple[str, ...]
    rebuilt: bool = False

    @property
    def state(self) -> str:
        """`true`, `wrong`, `rebuilt`, or `plausible`: nothing is wrong that could be told after pruning."""
        if self.rebuilt:
            return "rebuilt"
        return "wrong" if self.wrong else "plausible" if self.pruned else "true"


def run_ids(driver: Driver, database: str | None = "neo4j") -> list[str]:
    """Ids of all runs."""
    with translated("listing runs"), driver.session(database=database) as session:
        return session.execute_read(lambda tx: [record[0] for record in tx.run(_RUNS)])


def check_rollups(driver: Driver, run: str, database: str | None = "neo4j", *, rebuild: bool = False) -> Checked:
    """Compare the rollups of a run with what its steps add up to, in one transaction that keeps its writers waiting.

    Steps are read in pages; what is held at once is the rollups, twice.

    Args:
        driver, database: the store.
        run: its id.
        rebuild: make wrong rollups anew; those of a run of which steps were pruned stay as they are.

    Raises:
        StoreError: there is no such run, or the store cannot be reached.

    Example:
        >>> check_rollups(store.driver, "run-1").state                          # doctest: +SKIP
        'true'
    """
    with translated("checking rollups"), driver.session(database=database, notifications_min_severity="OFF") as session:
        return session.execute_write(_check, run, rebuild)


def _check(tx: ManagedTransaction, run: str, rebuild: bool) -> Checked:
    pruned = lock_run(tx, run)
    steps = stored_totals(tx, run)
    numbers = tx.run(_STEPS, run=run).single(strict=True)
    found = [*_differences(_kept(tx, run), steps, at_least=bool(pruned)), *_own_numbers(numbers)]
    done = bool(found) and rebuild and not pruned
    if done:
        replace_rollups(tx, run, steps)
    elif not found and (astray := epochs_astray(tx, run)):  # they come from the sums that were found to be true
        found = [
            f"epoch {'/'.join(map(str, key[1:]))}: its components' shares are not what EPOCH_SHARE says"
            for key in astray
        ]
        done = rebuild
        if done:
            arrange_shares(tx, astray)
    return Checked(run, numbers["steps"], pruned, len(found), tuple(found[:_QUOTED]), done)


def _own_numbers(numbers: Any) -> Iterator[str]:
    for name, kept, true in (
        ("steps", "kept", "steps"),
        ("first step", "first", "least"),
        ("last step", "last", "greatest"),
    ):
        if numbers[kept] != numbers[true]:
            yield f"the run's {name}: {numbers[kept]} is kept, {numbers[true]} is true"


def _kept(tx: ManagedTransaction, run: str) -> Totals:
    kept = Totals()
    for r in tx.run(_FOLLOWS, run=run):
        kept.paths[_key(run, r["key"])] = PathTotal(r["steps"], r["mass"], r["first"], r["last"])
    for r in tx.run(_TOOK, run=run):
        numbers = (r["steps"], r["traffic"], r["mass"], r["rank"], r["first"], r["last"])
        kept.routes[_key(run, r["key"])] = RouteTotal(*numbers)
    for r in tx.run(_SHARES, run=run):
        held = r["held"]
        steps, sums = held["steps"], [held[name] for name in SHARE_SUMS]
        kept.shares[_key(run, r["key"])] = ShareTotal(steps, held["share"] * steps, held["visits"] * steps, sums)
    for r in tx.run(_EPOCHS, run=run):
        held = r["held"]
        finite = held["finite_losses"]
        arrays = {name: epoch_array(name, held[name]) for name in EPOCH_ARRAYS}
        loss = held["loss"] * finite if finite else 0.0
        kept.epochs[_key(run, r["key"])] = EpochTotal(
            held["steps"], finite, loss, held["non_finite"], held["first"], held["last"], arrays
        )
    return kept


def _key(run: str, parts: list[Any]) -> Any:
    return (run, *parts)


_Total = TypeVar("_Total", PathTotal, RouteTotal, ShareTotal, EpochTotal)


def _differences(kept: Totals, true: Totals, at_least: bool) -> Iterator[str]:
    """Rows and numbers that are not what they should be, in words."""
    yield from _of_kind("path followed", kept.paths, true.paths, at_least)
    yield from _of_kind("route taken", kept.routes, true.routes, at_least)
    yield from _of_kind("share of an epoch", kept.shares, true.shares, at_least)
    yield from _of_kind("epoch", kept.epochs, true.epochs, at_least)


def _of_kind(what: str, kept: Mapping[Any, _Total], true: Mapping[Any, _Total], at_least: bool) -> Iterator[str]:
    for key in sorted(kept.keys() | true.keys()):
        name = f"{what} {'/'.join(map(str, key[1:]))}"
        if key not in kept:
            yield f"{name} is missing"
        elif key not in true:
            if not at_least:
                yield f"{name} is kept, and no step has it"
        else:
            held, added = _numbers(kept[key]), _numbers(true[key])
            for column, value in held.items():
                if not _fits(column, value, added[column], at_least):
                    yield f"{name}: {column} {_short(value)} is kept, {_short(added[column])} is true"


def _numbers(total: PathTotal | RouteTotal | ShareTotal | EpochTotal) -> dict[str, Any]:
    numbers = dict(vars(total))
    if isinstance(total, ShareTotal):
        numbers |= zip(SHARE_SUMS, numbers.pop("sums"), strict=True)
        numbers["sum of shares"], numbers["sum of visits"] = numbers.pop("share"), numbers.pop("visits")
    if isinstance(total, EpochTotal):
        numbers |= numbers.pop("arrays")
        numbers["sum of losses"] = numbers.pop("loss")
    return numbers


def _fits(column: str, kept: Any, true: Any, at_least: bool) -> bool:
    if isinstance(kept, np.ndarray):
        if kept.shape != true.shape:
            return False
        close = np.isclose(kept, true, rtol=_CLOSE, atol=0.0)
        return bool(np.all(close | (kept > true)) if at_least else np.all(close))
    if math.isclose(kept, true, rel_tol=_CLOSE, abs_tol=1e-12 if column == "sum of losses" else 0.0):
        return True
    if not at_least or column == "sum of losses":  # of losses some may be negative
        return at_least
    return bool(kept < true if column in ("first", "rank") else kept > true)


def _short(value: Any) -> str:
    return f"of {len(value)} edges" if isinstance(value, np.ndarray) else f"{value:.12g}"
