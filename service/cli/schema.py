"""`gradtrace schema`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gradtrace.service.cli.output import format_option, write_rows

if TYPE_CHECKING:
    from gradtrace.queries.layout import Part

PARTS = ("labels", "relationships", "idioms")
_COLUMNS = ("kind", "name", "pattern", "property", "meaning", "cypher", "command")


@click.command("schema")
@click.argument("part", required=False, type=click.Choice(PARTS))
@format_option
def command(part: str | None, output: str) -> None:
    """What the graph database holds: labels and relationships with their properties, and queries to begin with.

    PART is labels, relationships or idioms; without it, all of them. No server is asked.

    \b
    Examples:
      gradtrace schema
      gradtrace schema relationships
      gradtrace schema idioms
      gradtrace schema --format json
    """
    from gradtrace.queries.idioms import IDIOMS
    from gradtrace.queries.layout import LABELS, RELATIONSHIPS

    shown = PARTS if part is None else (part,)
    if output == "table":
        for kind, parts in (("labels", LABELS), ("relationships", RELATIONSHIPS)):
            if kind in shown:
                _table(kind, parts)
        if "idioms" in shown:
            click.echo("Idioms")
            for idiom in IDIOMS:
                click.echo(f"\n{idiom.name.capitalize()}. {idiom.about}\n\n{idiom.command}")
        return
    rows: list[dict[str, Any]] = []
    for kind, parts in (("label", LABELS), ("relationship", RELATIONSHIPS)):
        if kind + "s" in shown:
            for p in parts:
                head = {"kind": kind, "name": p.name, "pattern": p.pattern}
                rows.append({**head, "property": None, "meaning": p.about})
                rows += [{**head, "property": name, "meaning": about} for name, about in p.properties.items()]
    if "idioms" in shown:
        rows += [
            {"kind": "idiom", "name": i.name, "meaning": i.about, "cypher": i.cypher, "command": i.command}
            for i in IDIOMS
        ]
    write_rows(rows, _COLUMNS, output)


def _table(kind: str, parts: Sequence[Part]) -> None:
    rows = []
    for part in parts:
        rows.append({"name": part.name, "pattern": part.pattern, "property": "", "meaning": part.about})
        rows += [{"name": "", "property": name, "meaning": about} for name, about in part.properties.items()]
    shown = ("name", "property", "meaning") if kind == "labels" else ("pattern", "property", "meaning")
    for row in rows:
        row.setdefault("pattern", "")
    write_rows(rows, shown, "table", title=kind.capitalize())
