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
            "type": "/".join(
                t.__name__ for t in (get_args(field.annotation) or (field.annotation,)) if t is not NoneType
            ),
            "default": field.default,
            "description": field.description,
        }
        for name, field in found.parameters.model_fields.items()
    ]
    write_rows(rows, ["parameter", "type", "default", "description"], output, title=f"{workload}: {found.description}")
