"""`gradtrace trace`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from gradtrace.service.cli.completion import complete_workload
from gradtrace.service.cli.output import format_option, write_rows
from gradtrace.service.cli.spec_options import given_parameters, spec_options_but

COLUMNS = ("step", "epoch", "loss", "non_finite", "file")


@click.command("trace")
@click.argument("checkpoints", type=click.Path(path_type=Path))
@click.option(
    "--workload", required=True, shell_complete=complete_workload, help="Which model they are of, and its data."
)
@spec_options_but(
    *("workload", "epochs", "steps", "every", "batches", "blocked", "kernels", "non_finite", "on_error"),
)
@click.option(
    "--batch",
    "batches",
    type=click.Choice(["training", "probe", "both"]),
    default="probe",
    show_default=True,
    help="Trace the held-out probe batch, the first training batch, or both.",
)
@click.option("--run", "run", metavar="RUN", help="Id of the run; if left out, one that the folder and options decide.")
@click.option(
    "--sink", default="store", show_default=True, metavar="store|memory|jsonl:PATH", help="Where the traces go."
)
@format_option
def command(
    checkpoints: Path,
    workload: str,
    parameters: tuple[tuple[str, str], ...],
    seed: str | None,
    run: str | None,
    sink: str,
    output: str,
    modes: tuple[str, ...],
    **options: Any,
) -> None:
    """Trace a model after the fact, at each checkpoint in the folder CHECKPOINTS, and store the traces as one run.

    Read are safetensors files and files of torch.save that hold a state dict alone, or under model, state_dict or
    model_state_dict; no file can run code. The step is in the file's metadata (step, global_step), or the last number of its
    name. A second time, steps that are stored already stay as they are.

    \b
    Examples:
      gradtrace trace checkpoints/ --workload digits-mlp --set hidden=128
      gradtrace trace saved/ --workload my-net --batch both --mode maxprod --run my-net-1
    """
    given = given_parameters(parameters, {"seed": seed})

    from gradtrace.service.spec import spec_from_text

    spec = spec_from_text(workload, given, modes=tuple(dict.fromkeys(modes)), every=1, **options)

    from gradtrace.service.cli.training import check_sink, counted, opened

    check_sink(sink)
    with counted(), opened(sink, spec) as (target, _):
        from gradtrace.service.after import Looked, run_id, trace_checkpoints

        def tell(looked: Looked) -> None:
            click.echo(f"{looked.file}: step {looked.step}, loss {looked.loss:.3f}", err=True)

        run = run or run_id(checkpoints, spec)
        rows = [
            dataclasses.asdict(looked)
            for looked in trace_checkpoints(checkpoints, spec, target, run=run, progress=tell)
        ]
    write_rows(rows, COLUMNS, output)
    click.echo(f"{len(rows)} traced steps are of run {run}.", err=True)
