"""`gradtrace ablate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.output import format_option
from gradtrace.service.cli.spec_options import given_parameters, spec_options_but

if TYPE_CHECKING:
    from gradtrace.service.spec import RunSpec


@click.command("ablate")
@spec_options_but("seed", "blocked", "modes", "kernels", "experiment")
@click.option(
    "--component",
    "components",
    multiple=True,
    required=True,
    metavar="COMPONENT",
    help="Block the gradient through this component; may be repeated, one copy each. a+b blocks both in one copy.",
)
@click.option("--seeds", default="0..4", show_default=True, metavar="N,N|N..N", help="Seeds of the copies.")
@click.option("--experiment", default="ablation", show_default=True, help="Name under which the runs are grouped.")
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
    components: tuple[str, ...],
    seeds: str,
    sink: str,
    output: str,
    **options: Any,
) -> None:
    """Train copies of WORKLOAD in which no gradient passes through a component, and see what that costs.

    For each seed, one copy is trained as it is, and one for each --component with the gradient through it blocked: values stay
    as they are, and the weights of all edges into the component count as 0. The table tells the loss at the end of training and
    on held-out examples, with its standard deviation over the seeds, how much it rises above the unblocked copies, and beside
    it the share and the win rate that the traces of the unblocked copies give the component.

    \b
    Examples:
      gradtrace ablate highway --component layers.0.carry --component layers.0.transform
      gradtrace ablate highway --component layers.0.carry+layers.1.carry --seeds 0..9
      gradtrace ablate lstm --component recurrent.l0.carry --seeds 0..9 --set hidden=16 --steps 300
      gradtrace ablate digits-mlp --component hidden.0 --seeds 0,7 --sink memory --format csv
    """
    from gradtrace.service.jobs.sweep import values_of

    groups = tuple(dict.fromkeys(tuple(dict.fromkeys(text.split("+"))) for text in components))
    if any(not name for names in groups for name in names):
        raise click.UsageError(f"--component names a component, or several joined by +, not {' '.join(components)!r}.")
    given = given_parameters(parameters, {"epochs": epochs, "steps": steps})

    from gradtrace.service.spec import spec_from_text

    # Before torch, the database or anything else is touched: a typing error should not cost seconds.
    if "seed" in given:
        raise click.UsageError("Name the seeds of the copies by --seeds, not by --set seed.")
    specs: list[RunSpec] = [spec_from_text(workload, {**given, "seed": seed}, **options) for seed in values_of(seeds)]

    from gradtrace.service.cli.ablating import ablate
    from gradtrace.service.cli.training import check_sink

    check_sink(sink)
    click.get_current_context().exit(ablate(specs, groups, sink, output))
