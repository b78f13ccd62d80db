"""`gradtrace runs`."""

from __future__ import annotations

import click

from gradtrace.service.cli.completion import complete_workload
from gradtrace.service.cli.output import format_option, write_answer

BRIEF = ("run", "experiment", "status", "started", "steps", "epoch", "loss", "reason")
"""Columns of the table; the other formats have all, hyperparameters among them."""


@click.command("runs")
@click.option("--workload", shell_complete=complete_workload, help="Only runs of this workload.")
@click.option("--experiment", help="Only runs of this experiment.")
@click.option(
    "--status",
    type=click.Choice(["QUEUED", "RUNNING", "FINISHED", "INTERRUPTED", "FAILED"], case_sensitive=False),
    help="Only runs with this status.",
)
@click.option("--limit", type=click.IntRange(1), help="Runs at most, the latest first.")
@format_option
def command(output: str, **filters: str | int | None) -> None:
    """List the stored runs, the latest first.

    \b
    Examples:
      gradtrace runs
      gradtrace runs --workload char-lstm --status FINISHED
      gradtrace runs --format ndjson | head -3
    """
    from gradtrace.service.cli.store import opened_store

    with opened_store() as store:
        answer = store.library.run("runs", **filters)
        write_answer(answer, output, brief=BRIEF)
    if not answer.rows:
        click.echo("No such run is stored. `gradtrace run` makes one.", err=True)
