"""`gradtrace up`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from gradtrace.service.cli.output import format_option, write_rows

if TYPE_CHECKING:
    from gradtrace.service.settings import Settings


@click.command("up")
@click.option("--concurrency", type=click.IntRange(1, 256), default=1, show_default=True, help="Runs at a time.")
@click.option(
    "--wait",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the worker may take to answer.",
)
@format_option
def command(concurrency: int, wait: float, output: str) -> None:
    """Start Neo4j, Valkey and a worker on this machine, and return when all three answer.

    They go on in the background until `gradtrace down`; whatever ends by itself is started again. A server of your own is
    used where GRADTRACE_NEO4J_URI or GRADTRACE_REDIS_URI names it. What runs already is left as it is.

    \b
    Examples:
      gradtrace up
      gradtrace up --concurrency 2
      GRADTRACE_DATA=/srv/traces gradtrace up
    """
    from dataclasses import asdict

    from gradtrace.service.broker import ping
    from gradtrace.service.cli.status import COLUMNS
    from gradtrace.service.cli.store import load, opened_store
    from gradtrace.service.local.upkeep import start
    from gradtrace.service.local.valkey import ensure_valkey
    from gradtrace.service.status import WORKER, look

    settings = load()
    ping(ensure_valkey(settings, progress=True))
    with opened_store():  # a server is started, and its schema brought up to date
        servers = [name for name, uri in (("neo4j", settings.neo4j_uri), ("valkey", settings.redis_uri)) if uri is None]
        arguments = ["worker", f"--concurrency={concurrency}"]
        if start(settings.data, servers, {WORKER: arguments}):
            click.echo("Starting a worker ...", err=True)
        else:
            click.echo("The worker is kept already; `gradtrace down` first to change how.", err=True)
        _wait_for_worker(settings, wait)
    write_rows([asdict(row) for row in look(settings)], COLUMNS, output)


def _wait_for_worker(settings: Settings, wait: float) -> None:
    """Return when the worker that `up` keeps answers.

    Raises:
        UpkeepError: it ended, or does not answer in time; it and its supervisor are ended then.
    """
    from gradtrace.service.local.upkeep import failure, parts, stop
    from gradtrace.service.local.upkeep_home import UpkeepHome
    from gradtrace.service.status import WORKER, workers

    deadline = time.monotonic() + wait
    seen: int | None = None
    while True:
        _, worker = parts(settings.data, [WORKER])
        if worker.pid is not None and any(name.startswith(f"gradtrace-{worker.pid}@") for name in workers(1.0)):
            return
        ended = seen is not None and worker.pid != seen
        seen = worker.pid or seen
        if ended or time.monotonic() >= deadline:
            stop(settings.data, [WORKER], wait=5.0)
            what = "ended" if ended else f"has not answered for {wait:.0f} s"
            raise failure(UpkeepHome.of(settings.data), WORKER, what)
        time.sleep(0.1)
