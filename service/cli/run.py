"""`gradtrace run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.arguments import Every, Pair
from gradtrace.service.cli.completion import complete_parameter, complete_workload
from gradtrace.service.cli.output import format_option

if TYPE_CHECKING:
    from gradtrace.service.spec import RunSpec

DEFAULT_WORKLOAD = "char-lstm"


@click.command("run")
@click.argument("workload", default=DEFAULT_WORKLOAD, shell_complete=complete_workload)
@click.option(
    "--set", "parameters", type=Pair(), multiple=True, shell_complete=complete_parameter, help="Set a hyperparameter."
)
@click.option("--epochs", metavar="N", help="The same as --set epochs=N.")
@click.option("--steps", metavar="N", help="The same as --set steps=N.")
@click.option("--seed", metavar="N", help="The same as --set seed=N.")
@click.option("--every", type=Every(), default=10, show_default=True, help="Trace every n-th step, or log-spaced.")
@click.option(
    "--batch",
    "batches",
    type=click.Choice(["training", "probe", "both"]),
    default="training",
    show_default=True,
    help="Trace the training batch, a fixed held-out probe batch, or both.",
)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(["greedy", "maxprod"]),
    multiple=True,
    default=("greedy",),
    show_default=True,
    help="Kind of trace; may be given twice for both.",
)
@click.option(
    "--watch", multiple=True, metavar="PARAMETER", help="Keep this parameter's whole path at every traced step."
)
@click.option("--experiment", default="default", show_default=True, help="Name under which runs are grouped.")
@click.option(
    "--non-finite",
    type=click.Choice(["continue", "stop"]),
    default="continue",
    show_default=True,
    help="What to do when the loss becomes NaN or infinite.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "warn"]),
    default="raise",
    show_default=True,
    help="What to do when a step cannot be traced.",
)
@click.option(
    "--kernels",
    type=click.Choice(["native", "traceable"]),
    default="native",
    show_default=True,
    help="traceable: use decomposed kernels on untraced steps too, so that tracing never changes the weights.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of torch.")
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
    short = {k: v for k, v in (("epochs", epochs), ("steps", steps), ("seed", seed)) if v is not None}
    given: dict[str, str] = {}
    for name, text in (*parameters, *short.items()):
        if name in given and given[name] != text:
            raise click.UsageError(f"{name} is given twice: {given[name]} and {text}.")
        given[name] = text

    from gradtrace.service.spec import spec_from_text

    # Before torch, the database or anything else is touched: a typing error should not cost seconds.
    spec: RunSpec = spec_from_text(workload, given, modes=tuple(dict.fromkeys(modes)), **options)

    from gradtrace.service.cli.training import check_sink, train

    check_sink(sink)
    click.get_current_context().exit(train(spec, sink, output))
