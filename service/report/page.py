"""A report as one HTML file that needs no network, or as Markdown."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gradtrace.service.report.compare import MEASURES
from gradtrace.service.report.model import Comparison, Report, RunReport
from gradtrace.service.report.words import percent

if TYPE_CHECKING:
    from jinja2 import Environment

SCRIPTS = ("base.js", "lines.js", "bars.js", "graph.js", "tables.js", "comparison.js", "report.js")
"""Parts of the page's script, in the order in which they need each other."""
PARAMETER_COLUMNS = ("parameter", "shape", "share", "live", "dead", "unread", "margin", "paths", "main_share", "route")
_DIGITS = 5  # of a fraction in the embedded data: a thousandth of a percentage point
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def to_html(report: Report) -> str:
    """The page. It holds all its data, style and script, and asks browsers to refuse everything else."""
    style = _part("style.css")
    script = "\n".join(_part(name) for name in SCRIPTS)
    return (
        _environment(markdown=False)
        .get_template("report.html.jinja")
        .render(
            report=report,
            style=style,
            script=script,
            policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}",
            data=embedded(_overview(report)),
            blocks=[embedded(run_data(run)) for run in report.runs],
            epochs=epochs_table,
        )
    )


def to_markdown(report: Report) -> str:
    """The headlines, and the tables of what is drawn in the page, as Markdown."""
    return (
        _environment(markdown=True)
        .get_template("report.md.jinja")
        .render(report=report, epochs=epochs_table, columns=PARAMETER_COLUMNS, measures=MEASURES)
    )


def embedded(value: Any) -> str:
    """JSON that may stand inside of a script element, whatever its texts are."""
    text = json.dumps(_short(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def epochs_table(run: RunReport, most: int = 12) -> list[dict[str, Any]]:
    """Components in the first and the last traced epoch, those with the largest foreign share at the end first."""
    epochs = sorted({row["epoch"] for row in run.by_epoch})
    first = {row["component"]: row for row in run.by_epoch if row["epoch"] == epochs[0]}
    last = [row for row in run.by_epoch if row["epoch"] == epochs[-1]]
    last.sort(key=lambda row: (-round(row["foreign_share"], 9), -round(row["share"], 9), row["component"]))
    return [{"component": row["component"], "first": first.get(row["component"]), "last": row} for row in last[:most]]


def run_data(run: RunReport) -> dict[str, Any]:
    """What the page's script draws of one run: columns rather than rows, to be short."""
    graph = run.graph
    return {
        "steps": run.steps,
        "epochs": run.epochs,
        "losses": run.losses,
        "components": [c.component for c in run.components],
        "share": [c.share for c in run.components],
        "foreign_share": [c.foreign_share for c in run.components],
        "win_rate": [c.win_rate for c in run.components],
        "byEpoch": [
            [r["epoch"], r["component"], r["share"], r["foreign_share"], r["win_rate"], r["visits"], r["steps"]]
            for r in run.by_epoch
        ],
        "forks": [[r["epoch"], r["component"], r["contested"], r["won"], r["win_rate"]] for r in run.forks],
        "graph": {
            "nodes": graph.nodes,
            "places": graph.places,
            "size": graph.size,
            "ways": graph.ways,
            "lines": graph.lines,
            "shares": graph.shares,
        },
        "routes": {"texts": run.routes.texts, "ways": run.routes.ways, "at": run.routes.at},
        "parameters": [[_cell(row[c]) for c in PARAMETER_COLUMNS] for row in run.parameters],
        "parameterColumns": PARAMETER_COLUMNS,
    }


def _overview(report: Report) -> dict[str, Any]:
    return {
        "runs": [
            {
                "run": run.run,
                "headline": run.headline,
                "notes": run.notes,
                "facts": facts(run),
                "loss": next((x for x in reversed(run.losses) if math.isfinite(x)), None),
            }
            for run in report.runs
        ],
        "comparison": _comparison(report.comparison) if report.comparison else None,
    }


def facts(run: RunReport) -> list[tuple[str, str]]:
    """Name and value of what is known of a run before it is looked at."""
    known = [
        ("Workload", run.workload),
        ("Experiment", run.experiment),
        ("Status", run.status),
        ("Started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("Traced steps", f"{run.traced}"),
    ]
    values = ", ".join(f"{name}={value}" for name, value in run.hyperparameters.items())
    return [*known, ("Hyperparameters", values)] if values else known


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "settings": comparison.settings,
        "settingOf": comparison.setting_of,
        "components": comparison.components,
        "measures": MEASURES,
        "spreads": [
            [
                MEASURES.index(measure),
                comparison.components.index(component),
                setting,
                found.mean,
                found.deviation,
                found.values,
            ]
            for (measure, component, setting), found in comparison.spreads.items()
        ],
    }


def _cell(value: Any) -> Any:
    return "×".join(map(str, value)) or "scalar" if isinstance(value, list) else value


def _short(value: Any) -> Any:
    """Plain data with short numbers; those that JSON lacks become the texts NaN, ∞ and −∞."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
        short = round(value, _DIGITS) if abs(value) <= 1 else float(f"{value:.5g}")
        return int(short) if short == int(short) else short
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_short(part) for part in value]
    return value


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _part(name: str) -> str:
    return (files("gradtrace.service.report") / "templates" / name).read_text(encoding="utf-8").strip()


@cache
def _environment(*, markdown: bool) -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=not markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_markdown_text if markdown else None,
    )
    environment.filters["percent"] = percent
    environment.filters["facts"] = facts
    environment.filters["cell"] = _cell
    environment.filters["number"] = lambda value: "–" if value is None else _short(value)
    return environment


def _markdown_text(value: Any) -> Any:
    """A text of data in Markdown: what would be markup is escaped, and it stays on its line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(value.split())) if isinstance(value, str) else value
