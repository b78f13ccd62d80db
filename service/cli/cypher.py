"""`gradtrace cypher`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from gradtrace.service.cli.arguments import Pair
from gradtrace.service.cli.output import format_option, write_answer


@click.command("cypher")
@click.argument("text", metavar="CYPHER")
@click.option("-p", "--param", "parameters", type=Pair(), multiple=True, help="A $parameter; JSON, else a text.")
@click.option("--write", is_flag=True, help="Let the query change the database.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds it may take.")
@click.option("--limit", type=click.IntRange(1), help="Rows of the answer at most.")
@format_option
def command(
    text: str,
    parameters: tuple[tuple[str, str], ...],
    write: bool,
    timeout: float | None,
    limit: int | None,
    output: str,
) -> None:
    """Run CYPHER against the graph database ("-" reads it from stdin).

    Read-only: a query that would write, fetch a URL, call procedures that do more than describe the store, or touch
    the server is refused with exit status 4, unless --write allows writes.

    \b
    Examples:
      gradtrace cypher 'MATCH (r:Run) RETURN r.id, r.status'
      gradtrace cypher 'MATCH (s:Step {run: $run}) RETURN s.step, s.loss' -p run=my-run
      gradtrace cypher 'MATCH (n) RETURN labels(n)[0] AS label, count(*) AS nodes' --format csv
      gradtrace cypher --write 'MATCH (r:Run {id: "my-run"}) SET r.note = "keep"'
    """
    from gradtrace.service.cli.store import opened_store

    if text == "-":
        text = sys.stdin.read()
    with opened_store() as store:
        given = {name: _value(value) for name, value in parameters}
        write_answer(store.library.cypher(text, given, write=write, timeout=timeout, limit=limit), output)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
