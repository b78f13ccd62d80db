"""`gradtrace down`."""

from __future__ import annotations

import click


@click.command("down")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the worker may take to put its runs back before it is killed.",
)
def command(wait: float) -> None:
    """Stop what `gradtrace up` started: the worker, the embedded Valkey and the embedded Neo4j.

    Runs in work are put back into the queue, and go on with the next `up`. What is stored and queued stays. Servers of your
    own (GRADTRACE_NEO4J_URI, GRADTRACE_REDIS_URI) are left alone.

    \b
    Examples:
      gradtrace down
      gradtrace down --wait 5
    """
    from gradtrace.service.cli.store import load
    from gradtrace.service.local import stop_server
    from gradtrace.service.local.upkeep import stop
    from gradtrace.service.local.valkey import stop_valkey
    from gradtrace.service.status import WORKER

    settings = load()
    stopped = stop(settings.data, [WORKER], wait=wait)
    if settings.redis_uri is None and stop_valkey(settings.data):
        stopped.append("Valkey")
    if settings.neo4j_uri is None and stop_server(settings.data):
        stopped.append("Neo4j")
    click.echo(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.", err=True)
