"""Runs in the store: announcing them and ending them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from neo4j import ManagedTransaction

from gradtrace.tracer.errors import StaleFenceError, StoreError
from gradtrace.tracer.steptrace import RunRecord

_OPEN = """
MERGE (e:Experiment {name: $experiment})
MERGE (r:Run {id: $id})
ON CREATE SET r += $properties, r.started = datetime(), r.lease = datetime(), r.token = $token
WITH e, r, coalesce(r.token, '') = $token AS mine
REMOVE r.token
WITH e, r WHERE mine
CREATE (r)-[:IN]->(e)
RETURN r.id
"""
_LOCK = "MATCH (r:Run {id: $id}) SET r.lock = $token RETURN r.fence AS fence"
_SET = "MATCH (r:Run {id: $id}) SET r += $values"
_CLOSE = "MATCH (r:Run {id: $id}) SET r.status = $status, r.reason = $reason, r.ended = datetime()"
_INT64 = 2**63


def announce(tx: ManagedTransaction, run: RunRecord, more: Mapping[str, Any] | None = None) -> bool:
    """Write a run if it is not there, with `more` properties; whether it was written.

    Hyperparameters become properties `param_<name>`, exactly as they are named (a name with a dot wants backticks in
    Cypher: ``r.`param_optimizer.lr` ``); None has none. `parameters` holds them all as JSON.
    """
    properties: dict[str, Any] = {
        "id": run.id,
        "workload": run.workload,
        "experiment": run.experiment,
        "status": "RUNNING",
        "modes": list(run.modes),
        "parameters": json.dumps(run.parameters, ensure_ascii=False),
        "fence": 0,
        "attempts": 1,
        **(more or {}),
    }
    for name, value in run.parameters.items():
        wide = isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64
        properties[f"param_{name}"] = str(value) if wide else value
    created = tx.run(
        _OPEN, id=run.id, experiment=run.experiment, properties=properties, token=secrets.token_hex(8)
    ).single()
    return created is not None


def end(tx: ManagedTransaction, run: str, status: str, reason: str | None, fence: int | None) -> None:
    """Mark how a run ended.

    Raises:
        StoreError: there is no such run.
        StaleFenceError: another worker holds it.
    """
    _lock(tx, run, fence)
    tx.run(_CLOSE, id=run, status=status, reason=reason).consume()


def note_held_out(tx: ManagedTransaction, run: str, measured: Mapping[str, float], fence: int | None) -> None:
    """Keep measures on held-out examples with a run, as properties `held_out_<name>`; later ones take their place.

    Raises what `end` raises.
    """
    _lock(tx, run, fence)
    tx.run(_SET, id=run, values={f"held_out_{name}": value for name, value in measured.items()}).consume()


def _lock(tx: ManagedTransaction, run: str, fence: int | None) -> None:
    record = tx.run(_LOCK, id=run, token=secrets.token_hex(8)).single()
    if record is None:
        raise StoreError(f"The store holds no run {run!r}, so nothing can be noted of it. Announce it with open_run().")
    if fence is not None and record["fence"] != fence:
        raise overtaken(run, fence, record["fence"])


def overtaken(run: str, held: int, now: int) -> StaleFenceError:
    """The error of a writer that holds fence `held` of a run which is at fence `now`."""
    return StaleFenceError(
        f"This writer holds fence {held} of run {run!r}, and the run is at fence {now}: another "
        "worker took it over. Nothing was written; stop this one."
    )
