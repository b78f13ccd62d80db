"""`gradtrace db import`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from gradtrace.service.cli.output import format_option, write_rows

COLUMNS = ("run", "steps", "new", "status")


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@format_option
def import_runs(source: Path, output: str) -> None:
    """Write the runs in SOURCE, a folder or .jsonl file that `gradtrace db export` made, into the database.

    A .jsonl file of `gradtrace run --sink jsonl:PATH` will do as well. SOURCE is read through before anything is written. A step
    that is there already stays as it is, so an import that was interrupted can be repeated; a run of the same id that is another
    run is refused.

    \b
    Examples:
      gradtrace db import char-lstm
      gradtrace db import two.jsonl --format json
    """
    from gradtrace.service.cli.store import opened_store
    from gradtrace.service.cli.tell import teller
    from gradtrace.service.exchange.coming import import_runs as bring
    from gradtrace.service.exchange.coming import open_source

    found = open_source(source)
    with opened_store() as opened, teller() as tell:
        done = bring(opened.store, found, tell=tell)
    write_rows([dataclasses.asdict(row) for row in done], COLUMNS, output)
    new = sum(row.new for row in done)
    click.echo(f"{new} traced steps of {len(done)} run{'s' * (len(done) != 1)} are new in the database.", err=True)
