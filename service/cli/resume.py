"""`gradtrace resume`."""

from __future__ import annotations

import click

from gradtrace.service.cli.completion import complete_run


@click.command("resume")
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_run)
@click.option("--from-start", is_flag=True, help="Train from the first step again; stored steps stay as they are.")
@click.option("--wait", is_flag=True, help="Follow the runs until all are over.")
def command(runs: tuple[str, ...], from_start: bool, wait: bool) -> None:
    """Queue RUNS again that were cancelled or failed; they go on from their last checkpoint.

    \b
    Examples:
      gradtrace resume digits-mlp-20261124-101500-7f3a01bc
      gradtrace resume digits-mlp-20261124-101500-7f3a01bc --from-start --wait
    """
    from gradtrace.service.cli.following import follow
    from gradtrace.service.cli.queueing import opened_queue

    with opened_queue() as queue:
        for run in runs:
            queue.put(queue.jobs.resume(run, from_start=from_start))
            click.echo(f"{run} is queued", err=True)
        if wait:
            click.get_current_context().exit(follow(queue.jobs, runs))
