"""What `gradtrace run` does once its spec is known to be right: the sink, the run, and its exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradtrace.service.cli.failures import FAILED, INTERRUPTED, OK
from gradtrace.service.cli.progress import interrupted_by_ctrl_c, reporter
from gradtrace.service.spec import RunSpec
from gradtrace.tracer.errors import SpecError

if TYPE_CHECKING:
    from gradtrace.service.cli.store import Opened
    from gradtrace.tracer.sinks.protocol import Sink


def check_sink(text: str) -> None:
    """Refuse a `--sink` that is neither `store`, `memory` nor `jsonl:PATH`, and a path that can be no file.

    Raises:
        SpecError: it is none of these.
    """
    if text in ("store", "memory"):
        return
    kind, _, path = text.partition(":")
    if kind != "jsonl" or not path:
        raise SpecError(f"--sink {text!r} is not known. Say store, memory, or jsonl:PATH (jsonl:traces.jsonl).")
    file = Path(path)
    if (file.exists() and not file.is_file()) or not file.absolute().parent.is_dir():
        raise SpecError(f"--sink {text!r}: {path} can be no file. Name one in a folder that exists.")


def train(spec: RunSpec, sink: str, output: str) -> int:
    """Run the spec; tell on stderr how it goes and on stdout what was seen. Returns the exit status."""
    with counted(), opened(sink, spec) as (target, store):
        # Importing torch takes a second or two, so it comes after everything that may be refused.
        from gradtrace.service.cli import summary
        from gradtrace.service.epochs import EpochShares
        from gradtrace.service.runner import RunHooks, run

        shares = EpochShares(target)
        with interrupted_by_ctrl_c() as stop, reporter() as report:
            result = run(spec, shares, hooks=RunHooks(report.start, report.advance, stop.is_set))
        summary.notes(result)
        rows = summary.rows_from_store(store.library, spec, result.run) if store else shares.rows(result.run)
        summary.show(spec, result, rows, output)
        place = {"store": "in the graph database", "memory": "in memory only"}.get(sink, f"in {sink.partition(':')[2]}")
    stored = f"{result.stored} traced steps of run {result.run} are {place}"
    if result.status == "INTERRUPTED":
        click.echo(f"Interrupted after {result.steps} steps. {stored}, whole.", err=True)
        return INTERRUPTED
    if result.status == "FAILED":
        click.echo(f"The run failed: {result.reason}. {stored}.", err=True)
        return FAILED
    click.echo(f"{stored}.", err=True)
    if store:
        summary.what_next(result)
    return OK


def _nothing() -> None:
    """Nothing to end."""


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """With metrics, if the settings ask for them."""
    from gradtrace.service import metrics
    from gradtrace.service.cli.store import load

    try:
        end = metrics.start(load())
    except OSError as error:  # a worker on this machine has the port, perhaps
        click.echo(f"note: this run is not counted in the metrics: {error}", err=True)
        end = _nothing
    try:
        yield
    finally:
        end()


@contextlib.contextmanager
def opened(text: str, spec: RunSpec) -> Iterator[tuple[Sink, Opened | None]]:
    """The sink that `--sink` names, as the spec wants it, and the store behind it if there is one; closed at the end."""
    sink: Sink
    if text == "store":
        from gradtrace.service.cli.store import opened_store
        from gradtrace.service.store import Neo4jSink

        with opened_store() as found, Neo4jSink.on(found.store, fold=spec.fold, fold_edges=spec.fold_edges) as stored:
            yield stored, found
        return
    # The modules of the sinks need numpy, but no torch.
    from gradtrace.tracer.sinks import JsonlSink, MemorySink

    sink = MemorySink() if text == "memory" else JsonlSink(text.partition(":")[2])
    with contextlib.closing(sink):
        yield sink, None
