"""Are the stored scalar graphs of a run whole, and do they obey the chain rule? Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neo4j import Driver, ManagedTransaction

from gradtrace.service.store.driver_errors import translated

_CLOSE = 1e-3
"""Of the sum of |w·g| at a vertex or an edge: what rounding in the model's own precision may make of it."""
_QUOTED = 3

_STEPS = """
MATCH (s:Step) WHERE s.run = $run AND s.step >= $least AND s.pruned IS NULL AND EXISTS { (s)-[:HAS_SCALARS]->() }
RETURN s.key AS key ORDER BY s.step
"""
_COUNTS = """
MATCH (s:Step {key: $key})-[:HAS_SCALARS]->(g:ScalarGraph)
CALL (g) {
    MATCH (g)-[:HAS_SCALAR]->(x:Scalar)
    RETURN count(x) AS scalars, sum(COUNT { (x)-[:OF]->() }) AS placed, sum(COUNT { (x)-[:WEIGHS]->() }) AS edges
}
RETURN sum(g.vertices) AS scalars, sum(scalars) AS held, sum(placed) AS placed, sum(g.edges) AS edges,
       sum(edges) AS held_edges, any(x IN collect(s.non_finite) WHERE x) AS non_finite
"""
_CHAIN = """
MATCH (s:Step {key: $key})-[:HAS_SCALARS]->(g:ScalarGraph)
WHERE EXISTS { (s)-[:HAS_TRACE]->(t:Trace {batch: g.batch}) WHERE t.consistent }
MATCH (g)-[:HAS_SCALAR]->(a:Scalar)
CALL (a) {
    OPTIONAL MATCH (a)-[w:WEIGHS]->(b:Scalar)
    RETURN count(w) AS ways, coalesce(sum(w.weight * b.gradient), 0.0) AS arrived,
           coalesce(sum(abs(w.weight * b.gradient)), 0.0) AS size
}
WITH g, a, ways, arrived, size
WHERE abs(arrived - a.gradient) > $close * size + 1e-30
  AND NOT (ways = 0 AND EXISTS { (a)-[:OF]->(:Vertex {kind: "loss"}) })
WITH g, a, arrived ORDER BY g.batch, a.idx
RETURN count(*) AS wrong, head(collect([g.batch, a.idx, a.gradient, arrived])) AS first
"""
_FLOWS = """
MATCH (s:Step {key: $key})-[:HAS_TRACE]->(t:Trace)
WITH s, t.batch AS batch, collect(t)[0] AS t
MATCH (s)-[:HAS_SCALARS]->(:ScalarGraph {batch: batch})-[:HAS_SCALAR]->(:Scalar)-[w:WEIGHS]->(:Scalar)
WITH batch, coalesce(t.flow, s.flow) AS flow, w.edge AS edge, sum(w.flow) AS summed
WHERE abs(summed - flow[edge]) > $close * summed + 1e-30
WITH batch, edge, summed, flow[edge] AS flow ORDER BY batch, edge
RETURN count(*) AS wrong, head(collect([batch, edge, flow, summed])) AS first
"""


@dataclass(frozen=True, slots=True)
class CheckedScalars:
    """What looking at the scalar graphs of a run found.

    Attributes:
        steps: steps that have scalar graphs.
        wrong: scalars, edges and counts that are not what they should be.
        examples: the first of them in words.
    """

    steps: int
    wrong: int
    examples: tuple[str, ...]

    @property
    def state(self) -> str | None:
        """`true` or `wrong`; None where the run has no scalar graph."""
        return None if not self.steps else "wrong" if self.wrong else "true"


def check_scalars(driver: Driver, run: str, database: str | None = "neo4j") -> CheckedScalars:
    """Look at the scalar graphs of a run, step by step.

    Of each step: are as many scalars and edges there as were written, each with its vertex; is Σ w·g = g at every scalar; and
    do the flows of scalar edges add up to those of the operator edges? Of steps that met NaN or ±inf, only the numbers of
    scalars and edges are looked at.

    Raises:
        StoreError: the store cannot be reached.
    """
    wrong, examples, steps = 0, list[str](), 0
    with translated("checking scalars"), driver.session(database=database, notifications_min_severity="OFF") as session:
        for key in session.execute_read(lambda tx: [r["key"] for r in tx.run(_STEPS, run=run, least=-(2**62))]):
            steps += 1
            for count, said in session.execute_read(_found, key):
                wrong += count
                examples.append(f"step {key.rpartition(':')[2]}: {said}")
    return CheckedScalars(steps, wrong, tuple(examples[:_QUOTED]))


def _found(tx: ManagedTransaction, key: str) -> list[tuple[int, str]]:
    return list(_faults(tx, key))


def _faults(tx: ManagedTransaction, key: str) -> Iterator[tuple[int, str]]:
    counts = tx.run(_COUNTS, key=key).single(strict=True)
    for what, written, held in (
        ("scalars", counts["scalars"], counts["held"]),
        ("scalars with a vertex", counts["scalars"], counts["placed"]),
        ("scalar edges", counts["edges"], counts["held_edges"]),
    ):
        if written != held:
            yield abs(written - held), f"{held} {what} are there, {written} were written"
    if counts["non_finite"]:
        return
    for sums, words in (
        (_CHAIN, "Σ w·g is {summed:.6g} at scalar {at} ({batch}), whose gradient is {kept:.6g}"),
        (_FLOWS, "the scalar edges of edge {at} ({batch}) add up to {summed:.6g}, its flow is {kept:.6g}"),
    ):
        found = tx.run(sums, key=key, close=_CLOSE).single(strict=True)
        if found["wrong"]:
            batch, at, kept, summed = found["first"]
            yield found["wrong"], words.format(batch=batch, at=at, kept=kept, summed=summed)
