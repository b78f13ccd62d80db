"""How the statements of writers are run: planned once by the server, and not spelt out by the driver.

A store that fills up changes its statistics all the time, and the server plans a statement anew when they have changed
by three quarters: about 0.1 s of its time for each of some 25 statements, again and again while a run begins. What
writers ask for is found by keys, whatever the statistics say, so that the first plan is the right one for good;
`tests/service/store/test_plans.py` looks at those of an empty store.

The driver makes a text of every parameter for its debug log, also where nobody keeps one (`run` of neo4j 6's Bolt
classes): of a batch of steps that is megabytes, and took as long as all else that a writer does in this process.
"""

from __future__ import annotations

from typing import Any

from neo4j import ManagedTransaction, Result


class Rows(list[Any]):
    """Rows of a statement, which the driver sends as the list that they are, but shows as their number."""

    def __repr__(self) -> str:
        return f"<{len(self)} rows>"


KEEP_PLAN = "CYPHER replan=skip "


def collected(label: str, key: str, keys: str, name: str, *carried: str) -> str:
    """Cypher that collects the nodes of a list of keys into a list in the same order, or ends if one is missing."""
    kept = "".join(f"{c}, " for c in carried)
    return (
        f"UNWIND range(0, size(${keys}) - 1) AS i MATCH (n:{label} {{{key}: ${keys}[i]}})\n"
        f"WITH {kept}n ORDER BY i WITH {kept}collect(n) AS {name} WHERE size({name}) = size(${keys})\n"
    )


def run_planned(tx: ManagedTransaction, statement: str, **parameters: Any) -> Result:
    """Run a statement that finds all it needs by keys, by the plan that the server has of it, if it has one."""
    quiet: dict[str, Any] = {
        name: Rows(value) if isinstance(value, list) else value for name, value in parameters.items()
    }
    return tx.run(KEEP_PLAN + statement, **quiet)
