"""`gradtrace run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.output import format_option
from gradtrace.service.cli.spec_options import given_parameters, spec_options

if TYPE_CHECKING:
    from gradtrace.service.spec import RunSpec


@click.command("run")
@spec_options
@click.option(
    "--sink",
    default="store",
    show_default=True,
    metavar="store|memory|jsonl:PATH",
    help="Where the traces go: the graph database, nowhere but the table at the end, or a file.",
)
@format_option
def command(
    workload: str,
    parameters: tuple[tuple[str, str], ...],
    epochs: str | None,
    steps: str | None,
    seed: str | None,
    sink: str,
    output: str,
    modes: tuple[str, ...],
    **options: Any,
) -> None:
    """Train WORKLOAD (char-lstm if none is named) in this process, trace every n-th step, and store the traces.

    Ends with a table of the components that carried the dominant gradient path, epoch by epoch. Ctrl-C ends the run
    early; what is stored by then is whole. A second Ctrl-C does not wait for the step in work.

    \b
    Examples:
      gradtrace run
      gradtrace run char-lstm --set hidden=128 --set lr=0.01 --every 25
      gradtrace run digits-mlp --epochs 10 --batch both --mode greedy --mode maxprod
      gradtrace run digits-mlp --every log --sink jsonl:digits.jsonl
      gradtrace run digits-mlp --steps 20 --every 1 --sink memory --format json
    """
    given = given_parameters(parameters, {"epochs": epochs, "steps": steps, "seed": seed})

    from gradtrace.service.spec import spec_from_text

    # Before torch, the database or anything else is touched: a typing error should not cost seconds.
    spec: RunSpec = spec_from_text(workload, given, modes=tuple(dict.fromkeys(modes)), **options)

    from gradtrace.service.cli.training import check_sink, train

    check_sink(sink)
    click.get_current_context().exit(train(spec, sink, output))
