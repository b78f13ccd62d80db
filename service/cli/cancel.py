"""`gradtrace cancel`."""

from __future__ import annotations

import click

from gradtrace.service.cli.completion import complete_run


@click.command("cancel")
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_run)
def command(runs: tuple[str, ...]) -> None:
    """End submitted RUNS: at once where they wait, at the next step's border where a worker trains them.

    What is stored stays, and `gradtrace resume` goes on from there.

    \b
    Examples:
      gradtrace cancel digits-mlp-20261124-101500-7f3a01bc
    """
    from gradtrace.service.cli.store import opened_store
    from gradtrace.service.store.jobs import Jobs

    said = {"cancelled": "cancelled", "stopping": "is stopping at its next step"}
    with opened_store() as store:
        for run in runs:
            status = Jobs(store.store).cancel(run)
            click.echo(f"{run} {said.get(status, f'was {status} already')}", err=True)
