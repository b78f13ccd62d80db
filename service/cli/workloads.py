"""`gradtrace workloads`."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args

import click

from gradtrace.service.cli.completion import complete_workload
from gradtrace.service.cli.output import format_option, write_rows


@click.command("workloads")
@click.argument("workload", required=False, shell_complete=complete_workload)
@format_option
def command(workload: str | None, output: str) -> None:
    """List the workloads, or the parameters of one.

    \b
    Examples:
      gradtrace workloads
      gradtrace workloads char-lstm
      gradtrace workloads digits-mlp --format json
    """
    from gradtrace.service.workloads import DEFAULT, WORKLOADS, find

    if workload is None:
        rows: list[dict[str, Any]] = [
            {"workload": w.name, "default": w.name == DEFAULT, "description": w.description} for w in WORKLOADS.values()
        ]
        write_rows(rows, ["workload", "default", "description"], output)
        click.echo(f"Parameters of one: gradtrace workloads {DEFAULT}", err=True)
        return
    found = find(workload)
    rows = [
        {
            "parameter": name,
            "type": _type(field.annotation),
            "default": field.default,
            "description": field.description,
        }
        for name, field in found.parameters.model_fields.items()
    ]
    write_rows(rows, ["parameter", "type", "default", "description"], output, title=f"{workload}: {found.description}")


def _type(annotation: Any) -> str:
    """A parameter's type in a word; of a choice, the words to choose from."""
    options = get_args(annotation) or (annotation,)
    return "/".join(o if isinstance(o, str) else o.__name__ for o in options if o is not NoneType)
