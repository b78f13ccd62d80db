"""`gradtrace status`."""

from __future__ import annotations

import click

from gradtrace.service.cli.output import format_option, write_rows

COLUMNS = ("part", "name", "state", "count", "pid", "detail")


@click.command("status")
@click.option("--here", is_flag=True, help="Exit status 0 only if a worker of this machine (or container) answers.")
@format_option
def command(here: bool, output: str) -> None:
    """Say which servers and workers answer, how long the queues are, and which runs are being trained.

    Exit status 3 unless a Neo4j, a Redis or Valkey, and a worker answer.

    \b
    Examples:
      gradtrace status
      gradtrace status --format json
      gradtrace status --here
    """
    import socket
    from dataclasses import asdict

    from gradtrace.service.cli.failures import OK, UNREACHABLE
    from gradtrace.service.cli.store import load
    from gradtrace.service.status import look, whole

    rows = look(load())
    write_rows([asdict(row) for row in rows], COLUMNS, output)
    click.get_current_context().exit(OK if whole(rows, socket.gethostname() if here else None) else UNREACHABLE)
