"""Values of the driver as plain Python. Told by their shape, so that the driver need not be imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gradtrace.queries.answer import Subgraph


def plain(value: Any) -> Any:
    """A value as the driver gives it, as something that can be printed, compared and written as JSON.

    Nodes become `{"id", "labels", "properties"}`, relationships `{"id", "type", "start", "end", "properties"}`, paths
    `{"nodes", "relationships"}`; times become those of the standard library, durations and points texts.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if _is_path(value):
        return {
            "nodes": [plain(n) for n in value.nodes],
            "relationships": [plain(r) for r in value.relationships],
        }
    if hasattr(value, "labels"):
        return {"id": value.element_id, "labels": sorted(value.labels), "properties": _properties(value)}
    if hasattr(value, "start_node"):
        return {
            "id": value.element_id,
            "type": value.type,
            "start": value.start_node.element_id,
            "end": value.end_node.element_id,
            "properties": _properties(value),
        }
    if hasattr(value, "to_native"):
        return value.to_native()
    if isinstance(value, (list, set, frozenset)):
        return [plain(inner) for inner in value]
    return str(value)


def subgraph_of(rows: Iterable[Sequence[Any]], *, truncated: bool = False) -> Subgraph:
    """Every node and relationship among the values of some rows (within paths and lists too), each once."""
    nodes: dict[str, dict[str, Any]] = {}
    relationships: dict[str, dict[str, Any]] = {}
    waiting: list[Any] = [value for row in rows for value in reversed(row)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(reversed(value))
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif _is_path(value):
            waiting.extend([*value.nodes, *value.relationships])
        elif hasattr(value, "labels"):
            nodes[value.element_id] = plain(value)
        elif hasattr(value, "start_node"):
            relationships[value.element_id] = plain(value)
    by_id = sorted(nodes.values(), key=lambda n: (n["labels"], str(n["properties"].get("key", "")), n["id"]))
    return Subgraph(by_id, sorted(relationships.values(), key=lambda r: (r["type"], r["id"])), truncated)


def _is_path(value: Any) -> bool:
    return hasattr(value, "nodes") and hasattr(value, "relationships")


def _properties(entity: Any) -> dict[str, Any]:
    return {key: plain(inner) for key, inner in sorted(entity.items())}
