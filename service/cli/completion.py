"""What the shell offers after TAB. Answers from files where it can, and never starts a server."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_workload(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of workloads."""
    from gradtrace.service.workloads import WORKLOADS

    return [CompletionItem(w.name, help=w.description) for w in WORKLOADS.values() if w.name.startswith(incomplete)]


def complete_parameter(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`name=` of the parameters of the workload that the line names."""
    from gradtrace.service.workloads import DEFAULT, WORKLOADS

    workload = WORKLOADS.get(ctx.params.get("workload") or DEFAULT)
    if workload is None or "=" in incomplete:
        return []
    return [
        CompletionItem(f"{name}=", help=field.description)
        for name, field in workload.parameters.model_fields.items()
        if name.startswith(incomplete)
    ]
