"""Everything that a store holds, through plain Cypher, under keys that do not depend on the store: to compare two of them."""

from __future__ import annotations

import math
from typing import Any

from neo4j import Driver, GraphDatabase

from gradtrace.service.local import ServerInfo
from tests.service.store.readback import address, ask

_KEYS = {
    **dict.fromkeys(("Step", "Trace", "Vertex", "Component", "Epoch", "ScalarGraph", "Scalar"), "key"),
    **dict.fromkeys(("Architecture", "Path", "Route"), "hash"),
    "Experiment": "name",
    "Run": "id",
    "Graph": "fingerprint",
    "Migration": "number",
}
_OF_THIS_STORE = {"lock", "token", "started", "updated", "ended", "lease", "applied"}
"""Clocks and locks."""

Named = tuple[str, str]
Dump = dict[Any, dict[str, Any]]


def nodes(driver: Driver) -> tuple[dict[str, Named], Dump]:
    """Every node's name by its element id, and its labels and properties by its name."""
    names: dict[str, Named] = {}
    held: Dump = {}
    for identity, labels, properties in ask(driver, "MATCH (n) RETURN elementId(n), labels(n), properties(n)"):
        (label,) = set(labels) & _KEYS.keys()
        key = str(properties[_KEYS[label]])
        if label in ("ScalarGraph", "Scalar"):  # run:step:batch:RANDOM[:idx], where a run's name may hold anything
            parts = key.split(":")
            del parts[-1 if label == "ScalarGraph" else -2]
            properties["key"] = key = ":".join(parts)
        name = (label, key)
        assert name not in held, name
        names[identity] = name
        held[name] = {"labels": sorted(labels)} | {k: v for k, v in properties.items() if k not in _OF_THIS_STORE}
    return names, held


def dump(driver: Driver) -> tuple[Dump, dict[Any, list[dict[str, Any]]]]:
    """All nodes by name, and all relationships by type and ends; of several between the same ends, in order."""
    names, held = nodes(driver)
    links: dict[Any, list[dict[str, Any]]] = {}
    for kind, a, b, properties in ask(
        driver, "MATCH (a)-[r]->(b) RETURN type(r), elementId(a), elementId(b), properties(r)"
    ):
        links.setdefault((kind, names[a], names[b]), []).append(properties)
    for rows in links.values():  # a component's sums over paths, for instance, by mode and batch
        rows.sort(key=lambda row: sorted((k, str(v)) for k, v in row.items() if not isinstance(v, float | list)))
    return held, links


_SUMS = {"Epoch", "FOLLOWS", "TOOK", "EPOCH_SHARE"}
"""What is added up over steps: in which order depends on how writers cut batches."""


def differences(a: Any, b: Any) -> list[str]:
    """In what two dumps differ; sums over steps may in their last digits."""
    found = []
    for what, one, other in zip(("node", "relationship"), a, b, strict=True):
        for name in sorted(one.keys() | other.keys()):
            if not _alike(one.get(name), other.get(name), exact=name[0] not in _SUMS):
                found.append(f"{what} {name}: {one.get(name)!r} is not {other.get(name)!r}")
    return found


def _alike(a: Any, b: Any, exact: bool) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[k], b[k], exact) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_alike(x, y, exact) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return a == b or (not exact and math.isclose(a, b, rel_tol=1e-9))
    return type(a) is type(b) and a == b


def empty(driver: Driver) -> None:
    """Remove everything but the schema."""
    ask(driver, "MATCH (n) WHERE NOT n:Migration CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS")


def empty_wholly(server: ServerInfo) -> None:
    """Remove everything, the schema included, as `clean_store` does; for tests that share what they store."""
    uri, user, password = address(server)
    with GraphDatabase.driver(uri, auth=(user, password)) as driver:
        ask(driver, "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS")
        for name in ask(driver, "SHOW CONSTRAINTS YIELD name"):
            ask(driver, f"DROP CONSTRAINT `{name}`")
        for name in ask(driver, "SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name"):
            ask(driver, f"DROP INDEX `{name}`")
