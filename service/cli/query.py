"""`gradtrace query`."""

from __future__ import annotations

from typing import Any

import click

from gradtrace.service.cli.arguments import Pair
from gradtrace.service.cli.completion import complete_question, complete_question_parameter
from gradtrace.service.cli.output import format_option, write_answer, write_rows


@click.command("query")
@click.argument("name", required=False, shell_complete=complete_question)
@click.option(
    "-p",
    "--param",
    "parameters",
    type=Pair(),
    multiple=True,
    shell_complete=complete_question_parameter,
    help="A parameter of the question.",
)
@click.option("--about", is_flag=True, help="Explain the question, its parameters and its columns; ask nothing.")
@format_option
def command(name: str | None, parameters: tuple[tuple[str, str], ...], about: bool, output: str) -> None:
    """Ask the question NAME of the library; without a name, list the questions.

    Parameters that are left out take their defaults, mostly the latest run and its last traced step.

    \b
    Examples:
      gradtrace query
      gradtrace query components-by-epoch
      gradtrace query components-by-epoch --about
      gradtrace query top-routes -p run=char-lstm-20261123-231501-7f3a -p limit=5
      gradtrace query hottest-edges --format csv
    """
    from gradtrace.queries.registry import find, registry

    if name is None:
        if parameters or about:
            raise click.UsageError("Parameters and --about need the name of a question.")
        rows = [{"group": q.group, "name": q.name, "question": q.question} for q in registry().values()]
        write_rows(rows, ["group", "name", "question"], output, sections="group")
        click.echo("More on one: gradtrace query NAME --about", err=True)
        return
    question = find(name)
    if about:
        _explain(question, output)
        return
    given = dict(parameters)
    if len(given) < len(parameters):
        raise click.UsageError("A parameter is given twice.")
    question.convert(given)  # a typing error should not cost the start of a server

    from gradtrace.service.cli.store import opened_store

    with opened_store() as store:
        if output in ("ndjson", "csv"):
            write_rows(store.library.stream(name, **given), list(question.columns), output)
        else:
            write_answer(store.library.run(name, **given), output)


def _explain(question: Any, output: str) -> None:
    parameters = [
        {
            "parameter": p.name,
            "expected": p.expected,
            "default": "required" if p.required else str(p.default_from) if p.default_from else p.default,
            "meaning": p.about,
        }
        for p in question.parameters.values()
    ]
    columns = [
        {"column": c.name, "type": c.type, "unit": c.unit, "meaning": c.about} for c in question.columns.values()
    ]
    if output != "table":
        rows = [{"kind": "parameter", "name": p["parameter"], **p} for p in parameters]
        rows += [{"kind": "column", "name": c["column"], **c} for c in columns]
        write_rows(rows, ["kind", "name", "type", "unit", "expected", "default", "meaning"], output)
        return
    click.echo(f"{question.name}: {question.question}")
    if question.about:
        click.echo(f"\n{question.about}")
    click.echo()
    write_rows(parameters, ["parameter", "expected", "default", "meaning"], output)
    write_rows(columns, ["column", "type", "unit", "meaning"], output)
