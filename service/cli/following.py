"""Following runs that workers train: what changes, as it changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.failures import FAILED, OK

if TYPE_CHECKING:
    from gradtrace.queries.runner import Library
    from gradtrace.service.store.jobs import Jobs

OVER = ("FINISHED", "INTERRUPTED", "FAILED")
_PAUSE = 0.5
TOP = 4
"""Components that `watch` shows."""


def follow(jobs: Jobs, runs: Sequence[str]) -> int:
    """Tell on stderr, run by run, how they end; returns the exit status once all are over."""
    waiting, failed = list(runs), 0
    while waiting:
        found = jobs.look(waiting)
        for run in list(waiting):
            row = found.get(run)
            if row is None or row["status"] in OVER:
                waiting.remove(run)
                status = row["status"] if row else "gone from the store"
                failed += status != "FINISHED"
                reason = f": {row['reason']}" if row and row["reason"] else ""
                click.echo(f"{run} {status}{reason}  ({len(runs) - len(waiting)} of {len(runs)})", err=True)
        if waiting:
            time.sleep(_PAUSE)
    return FAILED if failed else OK


def states(jobs: Jobs, library: Library, run: str) -> Iterator[dict[str, Any]]:
    """How far a run is, each time that something has changed, until it is over.

    Rows have run, status, step, steps, loss, rate, attempts, segments, reason, and `components`: those with the largest
    shares in the latest traced epoch, as `name share` texts.
    """
    last: dict[str, Any] | None = None
    while True:
        row = jobs.look([run])[run]
        if row != last:
            last = dict(row)
            yield {**row, "components": top_components(library, run)}
        if row["status"] in OVER:
            return
        time.sleep(_PAUSE)


def top_components(library: Library, run: str) -> list[str]:
    """The components with the largest shares of the latest epoch that was traced."""
    rows = library.run("components-by-epoch", run=run, limit=TOP).rows
    latest = max((r["epoch"] for r in rows), default=None)
    return [f"{r['component']} {r['share']:.0%}" for r in rows if r["epoch"] == latest]


def line(row: dict[str, Any]) -> str:
    """A row as one line for people."""
    of = f"/{row['steps']}" if row["steps"] else ""
    parts = [row["status"], f"step {row['step']}{of}"]
    if row["loss"] is not None:
        parts.append(f"loss {row['loss']:.3f}")
    if row["rate"] is not None and row["status"] == "RUNNING":
        parts.append(f"{row['rate']:.1f} steps/s")
    if row["components"]:
        parts.append(", ".join(row["components"]))
    if row["reason"]:
        parts.append(row["reason"])
    return "  ".join(parts)
