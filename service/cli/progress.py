"""Progress of a run on stderr, and Ctrl-C during it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from gradtrace.service.runner import Progress
    from gradtrace.service.workloads.instance import WorkloadInstance


class Reporter(Protocol):
    """Is told how a run goes."""

    def start(self, run: str, instance: WorkloadInstance, steps: int) -> None:
        """The run begins."""

    def advance(self, progress: Progress) -> None:
        """A step is over."""


class LineReporter:
    """For stderr that is no terminal: one line at the start and one at the end of each epoch."""

    def start(self, run: str, instance: WorkloadInstance, steps: int) -> None:
        _introduce(run, instance, steps)
        self._per_epoch = len(instance.batches)

    def advance(self, progress: Progress) -> None:
        if progress.done % self._per_epoch == 0 or progress.done == progress.steps:
            click.echo(
                f"epoch {progress.epoch + 1}/{progress.epochs}  step {progress.done}/{progress.steps}  "
                f"loss {progress.loss:.3f}  traced {progress.traced}",
                err=True,
            )


class BarReporter:
    """For a terminal: a bar that moves."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  traced {task.fields[traced]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def start(self, run: str, instance: WorkloadInstance, steps: int) -> None:
        _introduce(run, instance, steps)
        self._task = self._bar.add_task("", total=steps, epoch="1", loss="-", traced=0)
        self._bar.start()

    def advance(self, progress: Progress) -> None:
        self._bar.update(
            self._task,
            completed=progress.done,
            epoch=f"{progress.epoch + 1}/{progress.epochs}",
            loss=f"{progress.loss:.3f}",
            traced=progress.traced,
        )

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


@contextlib.contextmanager
def reporter() -> Iterator[Reporter]:
    """The reporter that suits this stderr."""
    if not sys.stderr.isatty():
        yield LineReporter()
        return
    bar = BarReporter()
    try:
        yield bar
    finally:
        bar.stop()


@contextlib.contextmanager
def interrupted_by_ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets; a second one raises KeyboardInterrupt."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        click.echo("\nStopping after this step; what is stored stays whole.", err=True)

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _introduce(run: str, instance: WorkloadInstance, steps: int) -> None:
    for note in instance.notes:
        click.echo(note, err=True)
    weights = sum(p.numel() for p in instance.model.parameters())
    click.echo(f"Run {run}: {weights:,} weights, {steps:,} steps in epochs of {len(instance.batches):,}.", err=True)
