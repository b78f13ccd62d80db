"""`gradtrace doctor`."""

from __future__ import annotations

import contextlib
from dataclasses import asdict

import click

from gradtrace.service.cli import failures
from gradtrace.service.cli.output import format_option, write_rows

COLUMNS = ("check", "state", "detail", "advice")


@click.command("doctor")
@click.option(
    "--trace/--no-trace",
    "traced",
    default=True,
    show_default=True,
    help="Trace a small model; the first time, this compiles the kernels, which takes some minutes.",
)
@format_option
def command(traced: bool, output: str) -> None:
    """Check everything that gradtrace needs here, and say what to do about what is wrong: Python's packages, torch,
    tracing, the settings, Java, Neo4j's files, store and queue, room on the disks, memory, workloads of your own.

    Starts, fetches and changes nothing. Exit status: 0 nothing failed, 3 only a server failed, 1 something else did.

    \b
    Examples:
      gradtrace doctor
      gradtrace doctor --no-trace --format json
    """
    from gradtrace.service.cli.store import load
    from gradtrace.service.doctor import CHECKS, FAILED, SERVERS, examine
    from gradtrace.tracer.errors import SpecError

    with contextlib.suppress(SpecError):  # it is among the findings
        load()
    if traced:
        click.echo("Tracing a small model; the first time, this compiles the kernels ...", err=True)
    findings = list(examine([name for name in CHECKS if traced or name != "tracer"]))
    write_rows([asdict(finding) for finding in findings], COLUMNS, output)
    failed = [finding.check for finding in findings if finding.state == FAILED]
    click.echo(f"{len(failed)} of {len(findings)} checks failed." if failed else "All is well.", err=True)
    click.get_current_context().exit(
        failures.OK if not failed else failures.UNREACHABLE if set(failed) <= set(SERVERS) else failures.FAILED
    )
