"""What the shell offers after TAB. Answers from files where it can, and never starts a server."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_workload(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of workloads; those of packages by name alone, so that none is imported."""
    from gradtrace.service.workloads import WORKLOADS
    from gradtrace.service.workloads.foreign import installed

    known = {w.name: w.description for w in WORKLOADS.values()} | dict.fromkeys(installed(), "of an installed package")
    return [CompletionItem(name, help=about) for name, about in known.items() if name.startswith(incomplete)]


def complete_parameter(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`name=` of the parameters of the workload that the line names."""
    from gradtrace.service.workloads import DEFAULT, WORKLOADS

    workload = WORKLOADS.get(_named(ctx, "workload") or DEFAULT)
    if workload is None or "=" in incomplete:
        return []
    return [
        CompletionItem(f"{name}=", help=field.description)
        for name, field in workload.parameters.model_fields.items()
        if name.startswith(incomplete)
    ]


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of stored runs, the latest first."""
    return [CompletionItem(run) for run in _values("run-steps", "run", incomplete, {})]


def complete_question(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of questions."""
    from gradtrace.queries.registry import registry

    return [CompletionItem(q.name, help=q.question) for q in registry().values() if q.name.startswith(incomplete)]


def complete_question_parameter(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`name=` of the parameters of the question that the line names, and then values of the one begun."""
    from gradtrace.queries.registry import registry

    question = registry().get(_named(ctx, "name") or "")
    if question is None:
        return []
    name, sign, prefix = incomplete.partition("=")
    if not sign:
        return [
            CompletionItem(f"{p.name}=", help=p.about)
            for p in question.parameters.values()
            if p.name.startswith(incomplete)
        ]
    known = dict(ctx.params.get("parameters") or ())
    return [CompletionItem(f"{name}={value}") for value in _values(question.name, name, prefix, known)]


def _values(question: str, parameter: str, prefix: str, known: dict[str, str]) -> list[str]:
    """Values that the store holds for a parameter; none if no server runs already, or it does not answer."""
    from gradtrace.service.cli.store import opened_store
    from gradtrace.tracer.errors import GradtraceError

    try:
        with opened_store(start=False, timeout=2.0) as store:
            known.pop(parameter, None)
            return store.library.complete(question, parameter, prefix, **known)
    except GradtraceError:
        return []


def _named(ctx: click.Context, argument: str) -> str | None:
    """The command's argument, as far as the unfinished line tells: click leaves it among the rest after `-p`."""
    return next((a for a in ctx.args if not a.startswith("-")), None) or ctx.params.get(argument)
