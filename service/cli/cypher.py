"""`gradtrace cypher`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.arguments import Pair
from gradtrace.service.cli.output import format_option, write_answer

if TYPE_CHECKING:
    from gradtrace.queries.answer import Answer


@click.command("cypher")
@click.argument("text", metavar="CYPHER")
@click.option("-p", "--param", "parameters", type=Pair(), multiple=True, help="A $parameter; JSON, else a text.")
@click.option("--write", is_flag=True, help="Let the query change the database.")
@click.option("--explain", is_flag=True, help="Show how the server would find the answer; run nothing.")
@click.option("--profile", is_flag=True, help="Run it, and show what each operator did instead of the answer.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds it may take.")
@click.option("--limit", type=click.IntRange(1), help="Rows of the answer at most.")
@format_option
def command(
    text: str,
    parameters: tuple[tuple[str, str], ...],
    write: bool,
    explain: bool,
    profile: bool,
    timeout: float | None,
    limit: int | None,
    output: str,
) -> None:
    """Run CYPHER against the graph database ("-" reads it from stdin).

    Read-only: a query that would write, fetch a URL, call procedures that do more than describe the store, or touch
    the server is refused with exit status 4, unless --write allows writes.

    Plans (--explain, --profile) list operators from the answer down to where the search starts; an operator that is indented
    belongs to a branch of the one above it.

    \b
    Examples:
      gradtrace cypher 'MATCH (r:Run) RETURN r.id, r.status'
      gradtrace cypher 'MATCH (s:Step {run: $run}) RETURN s.step, s.loss' -p run=my-run
      gradtrace cypher 'MATCH (n) RETURN labels(n)[0] AS label, count(*) AS nodes' --format csv
      gradtrace cypher --profile 'MATCH (s:Step {run: $run}) RETURN count(s)' -p run=my-run
      gradtrace cypher --write 'MATCH (r:Run {id: "my-run"}) SET r.note = "keep"'
    """
    if explain and profile:
        raise click.UsageError("--explain runs nothing and --profile does; choose one of them.")
    if write and (explain or profile):
        raise click.UsageError("Plans are shown of reading queries only; leave --write out.")
    if limit is not None and (explain or profile):
        raise click.UsageError("--limit is for rows of an answer, and a plan is shown whole; leave it out.")

    from gradtrace.service.cli.store import opened_store

    if text == "-":
        text = sys.stdin.read()
    with opened_store() as store:
        given = {name: _value(value) for name, value in parameters}
        if explain:
            _write_plan(store.library.explain(text, given), output)
        elif profile:
            _write_plan(store.library.profile(text, given, timeout=timeout), output)
        else:
            write_answer(store.library.cypher(text, given, write=write, timeout=timeout, limit=limit), output)


def _write_plan(answer: Answer, output: str) -> None:
    """A plan; a table shows the depth of an operator by how far it is indented."""
    if output == "table":
        rows = [{**row, "operator": "  " * row["depth"] + row["operator"]} for row in answer.rows]
        answer = replace(answer, rows=rows, columns=tuple(c for c in answer.columns if c != "depth"))
    write_answer(answer, output)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
