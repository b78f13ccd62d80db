"""How far steps of runs are, on stderr: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import click

_EVERY = 100


@contextlib.contextmanager
def teller() -> Iterator[Callable[[str, int, int], None]]:
    """What is to be called with a run, how many of its steps are done, and how many it has."""
    if not sys.stderr.isatty():
        yield _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    tasks: dict[str, TaskID] = {}
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=Console(stderr=True)
    ) as bar:

        def tell(run: str, done: int, of: int) -> None:
            if run not in tasks:
                tasks[run] = bar.add_task(run, total=of)
            bar.update(tasks[run], completed=done)

        yield tell


def _line(run: str, done: int, of: int) -> None:
    if done == of or done % _EVERY == 0:
        click.echo(f"{run}: {done} of {of} steps", err=True)
