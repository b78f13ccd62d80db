"""How the server plans the statements of writers: once.

A store that fills up changes its statistics all the time, and the server plans a statement anew when they have changed
by three quarters: about 0.1 s of its time for each of some 25 statements, again and again while a run begins. What
writers ask for is found by keys, whatever the statistics say, so that the first plan is the right one for good;
`tests/service/store/test_plans.py` looks at those of an empty store.
"""

from __future__ import annotations

from typing import Any

from neo4j import ManagedTransaction, Result

KEEP_PLAN = "CYPHER replan=skip "


def run_planned(tx: ManagedTransaction, statement: str, **parameters: Any) -> Result:
    """Run a statement that finds all it needs by keys, by the plan that the server has of it, if it has one."""
    return tx.run(KEEP_PLAN + statement, **parameters)
