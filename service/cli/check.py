"""`gradtrace db check`."""

from __future__ import annotations

from typing import Any

import click

from gradtrace.service.cli.output import format_option, write_rows

COLUMNS = ("run", "steps", "pruned", "rollups", "scalars", "wrong", "example")


@click.command("check")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="Only this run; may be repeated.")
@click.option("--rebuild", is_flag=True, help="Make wrong rollups anew from the steps.")
@format_option
def check(runs: tuple[str, ...], rebuild: bool, output: str) -> None:
    """Compare what is kept summed of each run (its rollups) with what its steps add up to. Exit status 1 if it differs.

    Rollups are the paths and routes that a run took, its shares by epoch, and its epochs; questions about whole runs read
    them. They are kept in the transactions that write steps, so that they differ only where something else changed the
    store. Writers of a run wait while it is looked at.

    Of a run of which steps were pruned, only the rollups still hold what these add up to: its numbers must not be less
    than what the other steps add up to (plausible), and it is never rebuilt.

    Scalar graphs (--granularity scalar) are looked at too: whether they are whole, whether Σ w·g = g at every scalar, and whether
    their flows add up to those of the operators' edges.

    \b
    Examples:
      gradtrace db check
      gradtrace db check --run char-lstm-20261123-231501-7f3a --format json
      gradtrace db check --rebuild
    """
    from gradtrace.service.cli.failures import FAILED
    from gradtrace.service.cli.store import opened_store
    from gradtrace.service.store.check import check_rollups, run_ids
    from gradtrace.service.store.check_scalars import check_scalars

    with opened_store() as opened:
        driver, database = opened.store.driver, opened.store.database
        done = [
            (check_rollups(driver, run, database, rebuild=rebuild), check_scalars(driver, run, database))
            for run in dict.fromkeys(runs or run_ids(driver, database))
        ]
    rows: list[dict[str, Any]] = [
        {
            "run": found.run,
            "steps": found.steps,
            "pruned": found.pruned,
            "rollups": found.state,
            "scalars": scalars.state,
            "wrong": found.wrong + scalars.wrong,
            "example": next(iter((*found.examples, *scalars.examples)), None),
        }
        for found, scalars in done
    ]
    write_rows(rows, COLUMNS, output)
    wrong = [found.run for found, _ in done if found.state == "wrong"]
    if wrong:
        hint = "`gradtrace db check --rebuild` makes them anew, unless steps were pruned."
        click.echo(
            f"The rollups of {len(wrong)} of {len(done)} runs are not what their steps add up to. {hint}", err=True
        )
    broken = [found.run for found, scalars in done if scalars.state == "wrong"]
    if broken:
        click.echo(
            f"The scalar graphs of {len(broken)} of {len(done)} runs are not what was written: something else changed them. "
            "Prune these steps, or trace the run anew.",
            err=True,
        )
    if wrong or broken:
        click.get_current_context().exit(FAILED)
