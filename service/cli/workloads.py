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
    """List the workloads, or the parameters of one: built-in ones, and those of installed packages and of the modules
    that the setting workload_modules names.

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
        write_rows([*rows, *_foreign()], ["workload", "default", "description"], output)
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


def _foreign() -> list[dict[str, Any]]:
    """Rows of the workloads that are not built in; what is wrong with one goes to stderr."""
    from gradtrace.service.cli.store import load
    from gradtrace.service.workloads import WORKLOADS
    from gradtrace.service.workloads.foreign import every
    from gradtrace.tracer.errors import SpecError

    rows = []
    for name, origin, found in every(WORKLOADS, load().workload_modules):
        if isinstance(found, SpecError):
            click.echo(f"note: {found}", err=True)
        else:
            rows.append({"workload": name, "default": False, "description": f"{found.description} (of {origin})"})
    return rows


def _type(annotation: Any) -> str:
    """A parameter's type in a word; of a choice, the words to choose from."""
    options = get_args(annotation) or (annotation,)
    return "/".join(o if isinstance(o, str) else o.__name__ for o in options if o is not NoneType)
