"""`gradtrace watch`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from gradtrace.service.cli.completion import complete_run
from gradtrace.service.cli.failures import FAILED, OK
from gradtrace.service.cli.output import format_option, write_rows

COLUMNS = ("run", "status", "step", "steps", "loss", "rate", "attempts", "segments", "components", "reason")


@click.command("watch")
@click.argument("run", shell_complete=complete_run)
@format_option
def command(run: str, output: str) -> None:
    """Follow a submitted RUN until it is over: step, loss, steps a second, and the components with the largest shares.

    Exit status: 0 if it finished, 1 if it did not. Ctrl-C ends the watching, not the run.

    \b
    Examples:
      gradtrace watch digits-mlp-20261124-101500-7f3a01bc
      gradtrace watch digits-mlp-20261124-101500-7f3a01bc --format ndjson
    """
    from gradtrace.service.cli.following import line, states
    from gradtrace.service.cli.store import opened_store
    from gradtrace.service.store.jobs import Jobs
    from gradtrace.tracer.errors import StoreError

    with opened_store() as store:
        jobs = Jobs(store.store)
        if not jobs.look([run]):
            raise StoreError(f"The store holds no run {run!r}. `gradtrace runs` lists those there are.")
        last: str | None = None

        def told() -> Iterator[dict[str, Any]]:
            nonlocal last
            for row in states(jobs, store.library, run):
                last = row["status"]
                yield row

        if output != "table":
            write_rows(told(), COLUMNS, output)
        elif sys.stdout.isatty():
            for row in told():
                click.echo(f"\r\x1b[2K{line(row)}", nl=False)
            click.echo()
        else:
            for row in told():
                click.echo(line(row))
    click.get_current_context().exit(OK if last == "FINISHED" else FAILED)
