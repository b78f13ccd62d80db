"""What `gradtrace ablate` does once its specs are known to be right: the runs, the table, and the exit status."""

from __future__ import annotations

from collections.abc import Sequence

import click

from gradtrace.service.cli.failures import FAILED, INTERRUPTED, OK
from gradtrace.service.cli.output import write_rows
from gradtrace.service.cli.progress import interrupted_by_ctrl_c, reporter
from gradtrace.service.cli.summary import percent
from gradtrace.service.cli.training import counted, opened
from gradtrace.service.spec import RunSpec

PERCENT = ("accuracy", "share", "foreign_share", "win_rate")


def ablate(specs: Sequence[RunSpec], groups: Sequence[tuple[str, ...]], sink: str, output: str) -> int:
    """Train the copies; tell on stderr how it goes and on stdout what blocking costs. Returns the exit status."""
    with counted(), opened(sink, specs[0]) as (target, store):
        # Importing torch takes a second or two, so it comes after everything that may be refused.
        from gradtrace.service.ablation import COLUMNS, Ablation, copies_of
        from gradtrace.service.runner import RunHooks

        copies = copies_of(specs, groups)
        ablation = Ablation(target)
        with interrupted_by_ctrl_c() as stop, reporter() as report:

            def hooks(spec: RunSpec) -> RunHooks:
                what = "+".join(spec.blocked) or "nothing"
                number = len(ablation.copies) + 1
                click.echo(f"Copy {number} of {len(copies)}: seed {spec.parameters.seed}, {what} blocked.", err=True)
                return RunHooks(report.start, report.advance, stop.is_set)

            whole = ablation.train(copies, hooks, stop.is_set)
        rows = ablation.rows(specs[0].modes[0], specs[0].batch_names[0])
    if output == "table":
        rows = [{**row, **{c: percent(row[c]) for c in PERCENT}} for row in rows]
    write_rows(rows, COLUMNS, output, right=PERCENT)
    if store:
        where = f'MATCH (r:Run)-[:IN]->(:Experiment {{name: "{specs[0].experiment}"}})'
        click.echo(
            f"The runs are stored; param_blocked says what was blocked (unblocked runs have none):\n"
            f"  gradtrace cypher '{where} RETURN r.param_blocked, r.param_seed, r.id'",
            err=True,
        )
    failed = [c for c in ablation.copies if c.result.status == "FAILED"]
    for copy in failed:
        click.echo(f"Run {copy.result.run} failed: {copy.result.reason}.", err=True)
    if not whole:
        click.echo(
            f"Interrupted after {len(ablation.copies)} of {len(copies)} copies, of which the rows tell.", err=True
        )
        return INTERRUPTED
    return FAILED if failed else OK
