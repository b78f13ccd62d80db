"""`gradtrace submit`."""

from __future__ import annotations

from typing import Any

import click

from gradtrace.service.cli.arguments import Pair
from gradtrace.service.cli.completion import complete_parameter
from gradtrace.service.cli.output import format_option, write_rows
from gradtrace.service.cli.spec_options import given_parameters, spec_options


@click.command("submit")
@spec_options
@click.option(
    "--sweep",
    type=Pair(),
    multiple=True,
    shell_complete=complete_parameter,
    help="Several values of a hyperparameter: name=a,b,c or name=0..4; all combinations are submitted.",
)
@click.option("--wait", is_flag=True, help="Follow the runs until all are over.")
@format_option
def command(
    workload: str,
    parameters: tuple[tuple[str, str], ...],
    epochs: str | None,
    steps: str | None,
    seed: str | None,
    sweep: tuple[tuple[str, str], ...],
    wait: bool,
    output: str,
    modes: tuple[str, ...],
    **options: Any,
) -> None:
    """Queue runs of WORKLOAD (char-lstm if none is named) for workers, and print their ids.

    The runs are in the graph database from then on; workers (`gradtrace worker`, `gradtrace up`) train them, in segments
    with checkpoints. Exit status with --wait: 0 if all runs finished, else 1.

    \b
    Examples:
      gradtrace submit digits-mlp --set hidden=128
      gradtrace submit digits-mlp --sweep lr=0.01,0.001 --sweep seed=0..4 --experiment rates
      gradtrace submit char-lstm --sweep hidden=32,64 --wait
    """
    given = given_parameters(parameters, {"epochs": epochs, "steps": steps, "seed": seed})

    from gradtrace.service.jobs.sweep import grid

    runs = grid(workload, given, sweep, modes=tuple(dict.fromkeys(modes)), **options)

    from gradtrace.service.cli.following import follow
    from gradtrace.service.cli.queueing import opened_queue

    with opened_queue() as queue:
        rows = []
        for swept, spec in runs:
            rows.append({"run": queue.submit(spec), **swept})
        write_rows(rows, ["run", *(name for name, _ in sweep)], output)
        if queue.refused:
            click.echo(
                f"{queue.refused} of {len(rows)} runs are in the store only, since the queue went away; workers find "
                "them there.",
                err=True,
            )
        if not wait:
            click.echo(f"{len(rows)} queued. `gradtrace watch {rows[0]['run']}` follows one.", err=True)
            return
        click.get_current_context().exit(follow(queue.jobs, [row["run"] for row in rows]))
