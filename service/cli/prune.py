"""`gradtrace db prune`."""

from __future__ import annotations

from typing import Any

import click

from gradtrace.service.cli.output import format_option, write_rows


@click.command("prune")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="Only this run, ended or not; may be repeated.")
@click.option("--experiment", "experiments", multiple=True, metavar="NAME", help="Only runs of this experiment.")
@click.option("--older-than", type=float, metavar="DAYS", help="Only runs that ended more than so many days ago.")
@click.option("--keep-last", type=int, metavar="N", help="Keep the detail of the last N stored steps of each run.")
@click.option(
    "--keep-every", type=int, metavar="K", help="Keep the detail of every K-th stored step, and of the first."
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@format_option
def prune(
    runs: tuple[str, ...],
    experiments: tuple[str, ...],
    older_than: float | None,
    keep_last: int | None,
    keep_every: int | None,
    dry_run: bool,
    output: str,
) -> None:
    """Drop the detail of steps, and keep what they add up to.

    Of a pruned step its number, epoch and loss stay; its traces and its scalar graph go. Runs, epochs, shares by epoch, and
    the paths and routes that a run took stay whole. Runs that have not ended are left alone unless --run names them. The
    database's files do not shrink; the room is used again.

    \b
    Examples:
      gradtrace db prune --older-than 30 --keep-every 100 --dry-run
      gradtrace db prune --run char-lstm-20261123-231501-7f3a --keep-last 10
      gradtrace db prune --experiment trial
    """
    from gradtrace.service.cli.store import opened_store
    from gradtrace.service.store.prune import Pruned, PrunePolicy
    from gradtrace.service.store.prune import prune as drop

    policy = PrunePolicy(runs, experiments, older_than, keep_last, keep_every)
    with opened_store() as opened:
        done: Pruned = drop(opened.store.driver, policy, opened.store.database, dry_run=dry_run)
    rows: list[dict[str, Any]] = [{"run": run, "steps": steps} for run, steps in done.steps.items()]
    write_rows(rows, ("run", "steps"), output)
    verb = "Would drop" if dry_run else "Dropped"
    text = f"{verb} the detail of {sum(done.steps.values())} steps of {len(done.steps)} runs: {done.traces} traces"
    text += f" and {done.scalars} scalars" if done.scalars else ""
    text += f" with {done.relationships} relationships"
    text += "." if done.busy else f"; and {done.paths} paths and {done.routes} routes that nothing refers to."
    if done.busy:
        text += " Runs were written to in the last ten minutes, so paths and routes were left alone."
    click.echo(text, err=True)
