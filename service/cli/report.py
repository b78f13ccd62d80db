"""`gradtrace report`."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import click

from gradtrace.service.cli.completion import complete_run

FORMATS = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md", ".png": "png"}
"""Endings of file names → formats."""


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=complete_run)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help='File to write; "-" is stdout.')
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "png"]),
    help="By default what the file's name ends in, or html.",
)
@click.option("--experiment", help="Report on all runs of this experiment that have traced steps.")
@click.option("--mode", type=click.Choice(["greedy", "maxprod"]), help="Traces of this mode; by default greedy if any.")
@click.option(
    "--batch", type=click.Choice(["training", "probe"]), help="Traces on this batch; by default training if any."
)
@click.option("--title", help="Heading of the report.")
def command(
    runs: tuple[str, ...],
    output: Path | None,
    form: str | None,
    experiment: str | None,
    mode: str | None,
    batch: str | None,
    title: str | None,
) -> None:
    """Write a report on RUNs: one HTML file that opens anywhere, without a network.

    Without a RUN it is about the newest one that has traced steps. Several are compared with each other.

    \b
    Examples:
      gradtrace report -o report.html
      gradtrace report char-lstm-20261123-231501-7f3a digits-mlp-20261124-101500-7f3a -o both.html
      gradtrace report --experiment depth -o depth.html
      gradtrace report --format md
      gradtrace report -o slide.png                 needs matplotlib: pip install 'gradtrace[report]'
    """
    if runs and experiment:
        raise click.UsageError("Name runs or an experiment, not both.")
    form = form or FORMATS.get(output.suffix.lower() if output else "", "html")
    target = output or Path("-" if form == "md" else f"report.{form}")
    to_stdout = str(target) == "-"
    if not to_stdout and not target.parent.is_dir():
        raise click.UsageError(f"There is no folder {str(target.parent)!r} to write {target.name!r} to.")

    from gradtrace.service.cli.store import load, opened_store
    from gradtrace.service.jobs.redact import hide_environment
    from gradtrace.service.log import hide_settings
    from gradtrace.service.report import gather, to_html, to_markdown, to_png
    from gradtrace.service.report.picture import need_matplotlib

    if form == "png":
        need_matplotlib()
    hide_settings(load())
    hide_environment()
    with opened_store() as store:
        made = gather(store.library, runs, experiment=experiment, mode=mode, batch=batch, title=title)
    if form == "png":
        written = to_png(made)
    elif form == "md":
        written = to_markdown(made).encode()
    else:
        written = to_html(made).encode()
    if to_stdout:
        sys.stdout.buffer.write(written)
        sys.stdout.flush()
        return
    _write(target, written)
    what = f"run {made.runs[0].run}" if len(made.runs) == 1 else f"{len(made.runs)} runs"
    click.echo(f"Report on {what}: {target} ({len(written) / 1000:,.0f} kB)", err=True)


def _write(target: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644 & ~_umask())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
