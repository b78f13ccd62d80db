"""The transaction that makes steps visible: all of a step or nothing of it, each (run, step) once.

It locks the runs first (in order of their ids), so that writers of one run come one after the other; then it checks the
fences, leaves out the steps that are there already, creates the others, keeps the rollups true, and compares what the
store says it created with what was sent.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neo4j import ManagedTransaction

from gradtrace.service.store.keys import step_key
from gradtrace.service.store.plans import collected, run_planned
from gradtrace.service.store.rollups import update_rollups
from gradtrace.service.store.rows import StepRows, step_rows
from gradtrace.service.store.runs import overtaken
from gradtrace.service.store.scalars import Draft, link_drafts
from gradtrace.service.store.structure import MissingStructureError
from gradtrace.tracer.errors import StoreError, StoreIntegrityError, UnknownGraphError
from gradtrace.tracer.steptrace import StepTrace

_LOCK_RUNS = """
UNWIND $runs AS id
MATCH (r:Run {id: id}) SET r.lock = $token
RETURN r.id AS id, r.fence AS fence
"""
_FENCES = "UNWIND $runs AS id MATCH (r:Run {id: id}) RETURN r.id AS id, r.fence AS fence"
_THERE = "UNWIND $keys AS key MATCH (s:Step {key: key}) RETURN s.key AS key"
_CREATE_STEPS = (
    collected("Run", "id", "runs", "rs")
    + collected("Graph", "fingerprint", "graphs", "gs", "rs")
    + """
UNWIND $steps AS s
CREATE (x:Step) SET x = s.properties
WITH x, s, gs, rs[s.run] AS r, gs[s.graph] AS g
CREATE (r)-[:HAS_STEP]->(x) CREATE (x)-[:ON]->(g)
WITH x, s, gs
UNWIND s.traces AS t
CREATE (x)-[:HAS_TRACE]->(k:Trace) SET k = t.properties
WITH k, gs[t.graph] AS g
CREATE (k)-[:ON]->(g)
"""
)


def _linked(label: str, key: str, relationship: str, columns: Sequence[str], source: str = "Trace") -> str:
    """Cypher that links traces (or steps) to shared nodes, all rows of a node together: row by row took half as long again."""
    properties = ", ".join(f"{name}: r[{n}]" for n, name in enumerate(columns, 1))
    return (
        collected(source, "key", "sources", "ts")
        + f"UNWIND $rows AS part MATCH (n:{label} {{{key}: part[0]}})\n"
        + f"UNWIND part[1] AS r WITH n, ts[r[0]] AS t, r\nCREATE (t)-[:{relationship} {{{properties}}}]->(n)"
    )


_CARRIES = _linked(
    "Component",
    "key",
    "CARRIES",
    (
        *("share", "mass", "traffic", "visits", "own", "foreign", "contested", "won", "flow"),
        *("times", "time_mass", "examples", "example_mass"),
    ),
)
_LEFT = _linked("Parameter:Vertex", "key", "LEFT", ("traffic", "mass", "dead", "unread", "non_finite"))
_SPREAD = _linked(
    "Parameter:Vertex",
    "key",
    "SPREAD",
    ("mode", "batch", "live", "mass", "abs_sum", "coherence", "entropy"),
    "Step",
)
_SPREAD_IN = _linked(
    "Component",
    "key",
    "SPREAD_IN",
    ("mode", "batch", "share", "abs_sum", "own", "foreign", "coherence", "entropy"),
    "Step",
)
_TOP = _linked("Route", "hash", "TOP", ("parameter", "traffic", "mass", "rank"))
_DOMINANT = _linked(
    "Path",
    "hash",
    "DOMINANT",
    (
        "parameter",
        "scalar",
        "mass",
        "parameter_gradient",
        "share",
        "margin",
        "concentration",
        "example",
        "time",
        "index",
        "weight",
        "gradient",
    ),
)


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did.

    Attributes:
        steps: steps that it created; the others were there already.
        created: nodes and relationships that it created, rollups included.
    """

    steps: int
    created: int


def write_steps(
    tx: ManagedTransaction,
    steps: Sequence[StepTrace],
    fences: Mapping[str, int] | None = None,
    drafts: Sequence[Draft] = (),
) -> Written:
    """Create the steps that are not there yet, with all that belongs to them.

    Args:
        tx: a managed transaction.
        steps: steps of announced runs whose graphs, routes and paths are stored; of equal (run, step) the first counts.
        fences: per run the fence token that its writer holds; runs that are not named are not fenced.
        drafts: the scalar graphs of steps at scalar granularity, written before.

    Raises:
        StaleFenceError: another writer holds the run by now; nothing is written.
        StoreError: a run was never announced.
        UnknownGraphError: the store does not hold a graph that a step refers to.
        StoreIntegrityError: the store did not create what was sent; nothing is kept.
    """
    by_key: dict[str, StepTrace] = {}
    for step in sorted(steps, key=lambda s: (s.run, s.step)):
        by_key.setdefault(step_key(step.run, step.step), step)
    _lock(tx, sorted({s.run for s in steps}), fences or {})
    there = {record["key"] for record in run_planned(tx, _THERE, keys=list(by_key))}
    fresh = [step for key, step in by_key.items() if key not in there]
    if not fresh:
        return Written(0, 0)
    rows = step_rows(fresh)
    created = _create(tx, rows) + link_drafts(tx, drafts, fresh)
    return Written(len(fresh), created + update_rollups(tx, fresh))


def _lock(tx: ManagedTransaction, runs: list[str], fences: Mapping[str, int]) -> None:
    _compare(
        {r["id"]: r["fence"] for r in run_planned(tx, _LOCK_RUNS, runs=runs, token=secrets.token_hex(8))}, runs, fences
    )


def check_fences(tx: ManagedTransaction, runs: list[str], fences: Mapping[str, int]) -> None:
    """Look without a lock whether a writer may still write; `write_steps` looks again.

    Raises:
        StaleFenceError, StoreError: as `write_steps`.
    """
    _compare({r["id"]: r["fence"] for r in tx.run(_FENCES, runs=runs)}, runs, fences)


def _compare(found: Mapping[str, Any], runs: list[str], fences: Mapping[str, int]) -> None:
    for run in runs:
        if run not in found:
            raise StoreError(f"The store holds no run {run!r}. Announce it with open_run() before its first step.")
        if run in fences and fences[run] != found[run]:
            raise overtaken(run, fences[run], found[run])


def _create(tx: ManagedTransaction, rows: StepRows) -> int:
    traces = sum(len(step["traces"]) for step in rows.steps)
    names = rows.traces.all
    keys = [step["properties"]["key"] for step in rows.steps]
    total = 0
    # (what, expected, statement, parameters)
    plan: list[tuple[str, int, str, dict[str, Any]]] = [
        (
            "steps",
            3 * len(rows.steps) + 3 * traces,
            _CREATE_STEPS,
            {"runs": rows.runs.all, "graphs": rows.graphs.all, "steps": rows.steps},
        )
    ]
    for what, statement, part, sources in (
        ("component shares", _CARRIES, rows.carries, names),
        ("parameter counts", _LEFT, rows.left, names),
        ("dominant paths", _DOMINANT, rows.dominant, names),
        ("top routes", _TOP, rows.top, names),
        ("sums over paths of parameters", _SPREAD, rows.spread, keys),
        ("sums over paths of components", _SPREAD_IN, rows.spread_in, keys),
    ):
        if part:  # in the order of their keys, so that all writers come by shared nodes in one order
            parts = [list(item) for item in sorted(part.items())]
            plan.append((what, sum(map(len, part.values())), statement, {"sources": sources, "rows": parts}))
    for what, expected, statement, parameters in plan:
        counters = run_planned(tx, statement, **parameters).consume().counters
        made = counters.nodes_created + counters.relationships_created
        if made != expected:
            _diagnose(tx, rows, f"Writing {what} created {made} nodes and relationships instead of {expected}")
        total += made
    return total


def _diagnose(tx: ManagedTransaction, rows: StepRows, what: str) -> None:
    """Say which shared nodes are missing."""
    for label, key, keys in (
        ("Graph", "fingerprint", set(rows.graphs.all)),
        ("Component", "key", {*rows.carries, *rows.spread_in}),
        ("Vertex", "key", {*rows.left, *rows.spread}),
        ("Path", "hash", set(rows.dominant)),
        ("Route", "hash", set(rows.top)),
    ):
        held = tx.run(f"UNWIND $keys AS key MATCH (n:{label} {{{key}: key}}) RETURN n.{key}", keys=list(keys))
        missing = sorted(keys - {record[0] for record in held})
        if missing and label == "Graph":
            raise UnknownGraphError(
                f"A step refers to the graph {missing[0]}, which the store does not hold. Write graphs before steps; "
                "if it was there before, it was pruned, or the store was replaced while the run went on."
            )
        if missing:
            raise MissingStructureError(
                f"{what}; it was rolled back. The store misses {len(missing)} of {len(keys)} {label} nodes, "
                f"such as {missing[0]}: were they pruned while runs wrote to the store?"
            )
    raise StoreIntegrityError(f"{what}; it was rolled back. Is another program changing the store?")
