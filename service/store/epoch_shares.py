"""How the innermost components stood in an epoch, as arrays on its node, from the sums that EPOCH_SHARE keeps.

A question about every epoch of many runs would otherwise read a relationship for each component and epoch, whose
properties are what that costs. A migration does the same for epochs that earlier versions wrote.
"""

from __future__ import annotations

from collections.abc import Iterable

from neo4j import ManagedTransaction

from gradtrace.service.store.plans import run_planned

_ADD_UP = """
CALL (run, epoch, mode, batch) {
  MATCH ()-[e:EPOCH_SHARE]->(c:Component)
  WHERE e.run = run AND e.epoch = epoch AND e.mode = mode AND e.batch = batch
    AND c.depth > 0 AND NOT EXISTS { (c)<-[:PART_OF]-() }
  WITH c.path AS path, sum(e.mass) AS mass, sum(e.total) AS total, sum(e.foreign) AS foreign,
       sum(e.won) AS won, sum(e.contested) AS contested
  ORDER BY path
  RETURN collect(path) AS components, collect(CASE WHEN total > 0 THEN mass / total ELSE 0.0 END) AS shares,
         collect(CASE WHEN total > 0 THEN foreign / total ELSE 0.0 END) AS foreign_shares,
         collect(won) AS won, collect(contested) AS contested
}
"""
_ARRANGE = f"""
UNWIND $rows AS w
WITH w[0] AS run, w[1] AS epoch, w[2] AS mode, w[3] AS batch
{_ADD_UP}
MATCH (x:Epoch) WHERE x.run = run AND x.epoch = epoch AND x.mode = mode AND x.batch = batch
SET x.components = components, x.shares = shares, x.foreign_shares = foreign_shares, x.won = won, x.contested = contested
"""
_ASTRAY = f"""
MATCH (:Run {{id: $run}})-[:HAS_EPOCH]->(x:Epoch)
WITH x, x.run AS run, x.epoch AS epoch, x.mode AS mode, x.batch AS batch
{_ADD_UP}
WITH x, [components, shares, foreign_shares, won, contested] =
        [x.components, x.shares, x.foreign_shares, x.won, x.contested] AS right
WHERE NOT coalesce(right, false)
RETURN x.run AS run, x.epoch AS epoch, x.mode AS mode, x.batch AS batch
ORDER BY epoch, mode, batch
"""

Epoch = tuple[str, int, str, str]
"""Run, epoch, mode, batch."""


def arrange_shares(tx: ManagedTransaction, epochs: Iterable[Epoch]) -> None:
    """Bring the arrays of some epochs up to what EPOCH_SHARE says by now.

    The arrays run by component path, in order: `components`, and of each its share, foreign share, and forks won and
    contested. The graphs of one epoch carry the same arrays, which count all of them.
    """
    run_planned(tx, _ARRANGE, rows=[list(key) for key in sorted(set(epochs))]).consume()


def epochs_astray(tx: ManagedTransaction, run: str) -> list[Epoch]:
    """The epochs of a run whose arrays are not what EPOCH_SHARE says."""
    return [(r["run"], r["epoch"], r["mode"], r["batch"]) for r in tx.run(_ASTRAY, run=run)]
