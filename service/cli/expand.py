"""`gradtrace db expand`."""

from __future__ import annotations

import click

from gradtrace.service.cli.completion import complete_run


@click.command("expand")
@click.argument("run", shell_complete=complete_run)
@click.argument("step", type=click.IntRange(0))
@click.option("--undo", is_flag=True, help="Take the relationships away again.")
def expand(run: str, step: int, undo: bool) -> None:
    """Make relationships of the edge values of one stored STEP of RUN, to look at them in a graph browser.

    Each operator edge becomes a relationship WEIGHED for each trace of the step, with its flow, peak, traffic, mass, and
    whether it is dominant. Done twice, it changes nothing; `db prune` takes them away with the rest of a step.

    \b
    Examples:
      gradtrace db expand char-lstm-20261123-231501-7f3a 120
      gradtrace cypher 'MATCH (a)-[w:WEIGHED {step: 120}]->(b) RETURN a.name, b.name, w.flow LIMIT 10'
      gradtrace db expand char-lstm-20261123-231501-7f3a 120 --undo
    """
    from gradtrace.service.cli.store import opened_store
    from gradtrace.service.store.expand import collapse
    from gradtrace.service.store.expand import expand as spell_out

    with opened_store() as opened:
        change = collapse if undo else spell_out
        count = change(opened.store.driver, run, step, opened.store.database)
    if undo:
        click.echo(f"{count} relationships WEIGHED of step {step} are gone.", err=True)
    elif count:
        click.echo(f"{count} relationships WEIGHED were made of step {step}; --undo takes them away.", err=True)
    else:
        click.echo(f"Step {step} is expanded already.", err=True)
