"""The end of `gradtrace run`: which components carried the dominant gradient path, the loss, and what to ask next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.output import to_json, write_rows

if TYPE_CHECKING:
    from gradtrace.queries.runner import Library
    from gradtrace.service.runner import RunResult
    from gradtrace.service.spec import RunSpec

COLUMNS = ("epoch", "component", "share", "foreign_share", "win_rate")
PERCENT = ("share", "foreign_share", "win_rate")
PER_EPOCH = 8
"""Components shown of each epoch in the table for people; the other formats have all."""
MOST = 1000
"""Components of each epoch in the other formats, at most."""
BARS = "▁▂▃▄▅▆▇█"


def rows_from_store(library: Library, spec: RunSpec, run: str) -> list[dict[str, Any]]:
    """The answers to `components-by-epoch` for this run, in every mode and on every batch that was traced."""
    return [
        {"mode": mode, "batch": batch, **row}
        for mode in spec.path_modes
        for batch in spec.batch_names
        for row in library.run("components-by-epoch", run=run, mode=mode, batch=batch, limit=MOST).rows
    ]


def show(spec: RunSpec, result: RunResult, rows: list[dict[str, Any]], output: str) -> None:
    """Write what was seen to stdout: for people a loss curve and a table, for programs all rows."""
    if output == "json":
        click.echo(
            to_json(
                {
                    "run": result.run,
                    "workload": spec.workload,
                    "status": result.status,
                    "reason": result.reason,
                    "steps": result.steps,
                    "traced": result.traced,
                    "stored": result.stored,
                    "epoch_losses": result.epoch_losses,
                    "before": result.before,
                    "after": result.after,
                    "components": rows,
                },
                indent=2,
            )
        )
        return
    if output != "table":
        write_rows(({"run": result.run, **r} for r in rows), ["run", *(rows[0] if rows else COLUMNS)], output)
        return
    click.echo(f"\n{loss_line(result)}\n")
    if not rows:
        click.echo("No step was traced.")
        return
    several = len(spec.path_modes) * len(spec.batch_names) > 1
    write_rows(
        [{**r, **{c: percent(r[c]) for c in PERCENT}} for r in most_telling(rows)],
        ("mode", "batch", *COLUMNS) if several else COLUMNS,
        output,
        title="Components that carried the dominant gradient path, by epoch",
        sections="epoch",
        right=PERCENT,
    )


def most_telling(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each epoch (and mode and batch) the components with the largest shares."""
    return [r for r in rows if r["rank"] <= PER_EPOCH]


def percent(fraction: float | None) -> str | None:
    """A fraction as people read it.

    >>> percent(0.1234)
    '12.3 %'
    """
    return None if fraction is None else f"{fraction:.1%}".replace("%", " %")


def loss_line(result: RunResult) -> str:
    """The loss over the run as one line.

    The bars run from the lowest to the highest mean loss of up to 60 equal stretches of the run.
    """
    losses = [x for x in result.losses if math.isfinite(x)]
    held_out = (
        f"held out {result.before['loss']:.3f} to {result.after['loss']:.3f}, "
        f"accuracy {result.before['accuracy']:.1%} to {result.after['accuracy']:.1%}"
    )
    if not losses:
        return f"loss  no finite value in {result.steps} steps  ({held_out})"
    return f"loss  {losses[0]:.3f} {spark(losses)} {losses[-1]:.3f}  ({held_out})"


def spark(values: Sequence[float], width: int = 60) -> str:
    """Bars of the means of up to `width` equal stretches of `values`.

    >>> spark([3.0, 2.0, 1.0])
    '█▄▁'
    """
    width = min(width, len(values))
    cuts = [i * len(values) // width for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[int((m - low) * scale)] for m in means)


def notes(result: RunResult) -> None:
    """What the tracer had to say, on stderr."""
    for note in result.notes:
        click.echo(f"note: {note}", err=True)


def what_next(result: RunResult) -> None:
    """The commands to try next, on stderr."""
    steps = f'MATCH (s:Step {{run: "{result.run}"}}) RETURN s.step, s.loss ORDER BY s.step'
    click.echo(
        "\nNext:\n"
        "  gradtrace query                        # the questions that can be asked\n"
        f"  gradtrace query top-routes -p run={result.run}\n"
        f"  gradtrace cypher '{steps}'",
        err=True,
    )
