"""Sentences that say what was seen, with its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from gradtrace.service.report.model import Row

EVERYWHERE = 0.999
"""From this share on a component lies on every way, which says nothing."""
_ENOUGH = 0.05  # of the forks of the component with most
_LONGEST_ROUTE = 90  # characters that are spelt out in a sentence
_STEADY = 0.005  # a change of less than half a percentage point is none


def percent(fraction: float | None) -> str:
    """A fraction as people read it.

    >>> percent(0.6321), percent(None)
    ('63.2 %', '–')
    """
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def change(now: float, before: float | None) -> str:
    """How a fraction came to be what it is.

    >>> change(0.63, 0.44), change(0.63, 0.631), change(0.63, None)
    (', up from 44.0 %', ', as at first', '')
    """
    if before is None:
        return ""
    if abs(now - before) < _STEADY:
        return ", as at first"
    return f", {'up' if now > before else 'down'} from {percent(before)}"


def run_headline(by_epoch: Sequence[Row], forks: Sequence[Row], routes: Sequence[Row]) -> tuple[str, ...]:
    """What one run shows at its end, against its beginning.

    Args:
        by_epoch: rows of `components-by-epoch`.
        forks: rows of `win-rates`.
        routes: rows of `routes-over-time`.
    """
    epochs = sorted({row["epoch"] for row in by_epoch})
    if not epochs:
        return ("The model has no parts with names, so that all its gradient came through the model itself.",)
    first, last = epochs[0], epochs[-1]
    when = "In its only traced epoch" if first == last else "In the last epoch"
    said = []
    top = leading(by_epoch, last)
    if top is None:
        said.append(f"{when} every component lay on every way of the gradient or on none.")
    else:
        before = _cell(by_epoch, first, top["component"], "share") if first != last else None
        said.append(
            f"{when}, {percent(top['share'])} of the gradient mass came through {top['component']}"
            f"{change(top['share'], before)}."
        )
    winner = winning(forks, last)
    if winner is None:
        said.append("There were no forks: no trace could choose between components.")
    else:
        before = _cell(forks, first, winner["component"], "win_rate") if first != last else None
        said.append(
            f"{winner['component']} won {percent(winner['win_rate'])} of its forks{change(winner['win_rate'], before)}."
        )
    at_end = [row for row in routes if row["step"] == routes[-1]["step"] and len(row["tokens"]) > 1]
    if at_end:
        said.append(
            f"At the last step, {percent(at_end[0]['share'])} took the route {route_in_words(at_end[0])}, the busiest of "
            "those through more than one component."
        )
    return tuple(said)


def leading(by_epoch: Sequence[Row], epoch: int) -> Row | None:
    """The component through which most mass of other components' parameters came, of those not on every way."""
    rows = [r for r in by_epoch if r["epoch"] == epoch and 0 < r["share"] < EVERYWHERE]
    return min(rows, key=lambda r: (-round(r["foreign_share"], 9), -round(r["share"], 9), r["component"]), default=None)


def route_in_words(row: Row) -> str:
    """A route, or its ends if it is long.

    Args:
        row: one of `routes-over-time`.
    """
    names = [token.removesuffix("+") for token in row["tokens"] if token not in ("(", ")+")]
    text = str(row["route"])
    if len(text) <= _LONGEST_ROUTE:
        return text
    return f"from {names[0]} to {names[-1]} over {len(set(names[1:-1]))} components"


def winning(forks: Sequence[Row], epoch: int) -> Row | None:
    """The component that won most of its forks, of those that had not far fewer than the one with most."""
    rows = [r for r in forks if r["epoch"] == epoch]
    enough = _ENOUGH * max((r["contested"] for r in rows), default=0)
    often = [r for r in rows if r["contested"] >= enough]
    return min(often, key=lambda r: (-r["win_rate"], -r["contested"], r["component"]), default=None)


def run_notes(
    facts: Row, traced: int, drawn: int, non_finite: Sequence[int], parameters: Sequence[Row], folded: int | None
) -> tuple[str, ...]:
    """What the reader has to know about the numbers of a run."""
    notes = []
    if facts["status"] == "RUNNING":
        notes.append("The run is not over; the report shows what was stored when it was made.")
    elif facts["status"] != "FINISHED":
        notes.append(f"The run ended as {facts['status']}{': ' + facts['reason'] if facts['reason'] else ''}.")
    if drawn < traced:
        notes.append(
            f"{drawn} of {traced} traced steps are drawn, at even distances, the first and the last among them. "
            "Tables by epoch count all of them."
        )
    if non_finite:
        notes.append(
            f"NaN or an infinity was met at {_several(len(non_finite), 'traced step')}, first at step {non_finite[0]}."
        )
    dead = sum(p["dead"] for p in parameters)
    scalars = sum(p["live"] + p["dead"] + p["unread"] for p in parameters)
    if dead:
        notes.append(f"{dead:,} of {scalars:,} parameter scalars were dead at the last drawn step.")
    if folded is not None:
        parts = _several(folded, "part")
        notes.append(f"In the component graph, components whose names agree in their first {parts} are one.")
    return tuple(notes)


def _cell(rows: Sequence[Row], epoch: int, component: str, column: str) -> float | None:
    return next((r[column] for r in rows if r["epoch"] == epoch and r["component"] == component), None)


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
