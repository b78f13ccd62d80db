"""Plans of queries, as the server gives them, told operator by operator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

EXPLAINED = ("operator", "depth", "details", "estimated_rows")
"""Columns of a plan that was only made."""

PROFILED = (*EXPLAINED, "rows", "db_hits")
"""Columns of a plan that was run."""

_SCAN = re.compile(r"(AllNodes|NodeByLabels?|Relationships?Types?|AllRelationships?|Index)Scan$")


def plan_rows(plan: Mapping[str, Any], *, ran: bool) -> list[dict[str, Any]]:
    """One row an operator, from the one that hands out the answer down to those that find where to start.

    Each takes its rows from the one right below of the same depth; a branch that it asks as well stands in between, one
    deeper.

    Args:
        plan: the plan as the driver gives it (`operatorType`, `args`, `children`).
        ran: whether the query was run, so that rows and accesses to the database are known.

    Returns:
        Rows of `EXPLAINED`, or of `PROFILED`; `rows` and `db_hits` are None where the server did not count them.
    """
    rows = []
    for depth, node in walk(plan):
        arguments = node.get("args", {})
        row: dict[str, Any] = {
            "operator": bare_name(node),
            "depth": depth,
            "details": " ".join(str(arguments.get("Details", "")).split()),
            "estimated_rows": float(arguments.get("EstimatedRows", 0.0)),
        }
        if ran:
            row["rows"] = arguments.get("Rows", node.get("rows"))
            row["db_hits"] = arguments.get("DbHits", node.get("dbHits"))
        rows.append(row)
    return rows


def walk(plan: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Every operator of a plan from the top, with how many branches it stands away from the first."""
    waiting = [(0, plan)]
    while waiting:
        depth, node = waiting.pop()
        yield depth, node
        children = list(node.get("children", []))
        # The branch printed first is indented, so that the long one behind it stays in line.
        waiting.extend((depth + (at > 0), child) for at, child in enumerate(children))


def bare_name(node: Mapping[str, Any]) -> str:
    """Name of an operator without the name of the database (`"Expand(All)"`)."""
    return str(node.get("operatorType", "")).partition("@")[0].strip()


def scans(plan: Mapping[str, Any]) -> list[str]:
    """The operators of a plan that read all nodes or relationships of a kind, as `"NodeByLabelScan r:Run"`."""
    return [
        f"{bare_name(node)} {node.get('args', {}).get('Details', '')}".strip()
        for _, node in walk(plan)
        if _SCAN.search(bare_name(node))
    ]
