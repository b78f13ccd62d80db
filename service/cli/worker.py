"""`gradtrace worker`."""

from __future__ import annotations

import click


@click.command("worker")
@click.option("--concurrency", type=click.IntRange(1, 256), default=1, show_default=True, help="Runs at a time.")
@click.option(
    "--name",
    metavar="NAME",
    help="Name of this worker among others; gradtrace-PID if not given.",
)
@click.option("--no-beat", is_flag=True, help="Leave it to other workers to look for runs that were left behind.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="What to log on stderr.",
)
def command(concurrency: int, name: str | None, no_beat: bool, log_level: str) -> None:
    """Work on submitted runs until told to stop.

    Each run is trained in segments with checkpoints, so that workers come and go without losing a step. Ctrl-C or SIGTERM
    puts the runs in work back at the next step's border; a second one does not wait for it.

    \b
    Examples:
      gradtrace worker
      gradtrace worker --concurrency 2 --name gpu0
    """
    from gradtrace.service.cli.store import load

    load()  # the embedded servers read their settings from the environment

    from gradtrace.service.jobs.worker import serve

    click.get_current_context().exit(serve(concurrency, name, beat=not no_beat, log_level=log_level))
