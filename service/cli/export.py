"""`gradtrace db export`."""

from __future__ import annotations

from pathlib import Path

import click

from gradtrace.service.cli.completion import complete_run
from gradtrace.service.exchange.formats import FORMATS


@click.command("export")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_run)
@click.option(
    *("-o", "--output", "target"),
    metavar="TARGET",
    required=True,
    type=click.Path(path_type=Path),
    help="A new folder (Parquet), or a new file that ends in .jsonl or .graphml.",
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="What to write, where TARGET's ending does not tell."
)
@click.option("--step", type=click.IntRange(0), help="GraphML: the traced step; the last one if left out.")
@click.option(
    "--mode", type=click.Choice(["greedy", "maxprod"]), help="GraphML: the mode; the first traced if left out."
)
@click.option(
    "--batch", type=click.Choice(["training", "probe"]), help="GraphML: the batch; training if it was traced."
)
def export(
    runs: tuple[str, ...], target: Path, form: str | None, step: int | None, mode: str | None, batch: str | None
) -> None:
    """Write whole runs into a file or folder that `gradtrace db import` reads; or the operator graph of one step as GraphML.

    Parquet is a folder of flat tables for pandas, polars or DuckDB (needs gradtrace[arrow]); JSON lines have one line a step.
    Runs must have ended, and none of their steps may have been pruned. TARGET must not be there; it appears when it is whole.

    \b
    Examples:
      gradtrace db export char-lstm-20261123-231501-7f3a -o char-lstm
      gradtrace db export char-lstm-20261123-231501-7f3a digits-mlp-20261124-101500-0c1d -o two.jsonl
      gradtrace db export char-lstm-20261123-231501-7f3a --step 120 -o step-120.graphml
    """
    from gradtrace.service.exchange.formats import format_of

    form = form or format_of(target)
    given = [name for name, value in (("--step", step), ("--mode", mode), ("--batch", batch)) if value is not None]
    if form != "graphml" and given:
        raise click.UsageError(
            f"{given[0]} goes with GraphML alone: name a TARGET that ends in .graphml, or --format graphml."
        )
    if form == "graphml" and len(runs) > 1:
        raise click.UsageError(f"GraphML holds one step of one run, and {len(runs)} runs were named. Name one.")

    from gradtrace.service.cli.store import opened_store
    from gradtrace.service.cli.tell import teller
    from gradtrace.service.exchange.leaving import export_graph, export_runs

    with opened_store() as opened:
        if form == "graphml":
            found = export_graph(opened.store, runs[0], target, step=step, mode=mode, batch=batch)
            click.echo(f"Wrote the graph of step {found.step} of run {found.run} to {target}.", err=True)
            return
        with teller() as tell:
            done = export_runs(opened.store, runs, target, form, tell=tell)
    steps = sum(run.steps for run in done)
    click.echo(f"Wrote {steps} traced steps of {len(done)} run{'s' * (len(done) > 1)} to {target}.", err=True)
