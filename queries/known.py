"""Whether one value is in the store, by its key: the look-ups that list all such values read every run."""

from __future__ import annotations

IS_THERE = {
    "run": "MATCH (r:Run {id: $value}) RETURN r.id LIMIT 1",
    "experiment": "MATCH (x:Experiment {name: $value}) WHERE EXISTS { (x)<-[:IN]-(:Run) } RETURN x.name LIMIT 1",
    "workload": """
MATCH (r:Run {workload: $value})
WHERE $experiment IS NULL OR EXISTS { (r)-[:IN]->(:Experiment {name: $experiment}) }
RETURN r.id LIMIT 1
""",
}
"""By the column of the look-up. A workload is asked for within the experiment that is given beside it, or anywhere."""
