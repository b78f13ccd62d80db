"""Answers in plain Python to the questions about the scalar graph of one step."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradtrace.tracer.scalargraph import ScalarTrace
from tests.queries.reference import Rows, answers
from tests.queries.worlds import Run


def spelt_out(runs: Mapping[str, Run], run: str, batch: str, step: int) -> list[ScalarTrace]:
    """The scalar graph of one batch of a step, if it is there."""
    steps = runs[run].steps if run in runs else ()
    return [t for s in steps if s.step == step for t in s.scalars if t.batch == batch]


@answers("scalar-graph-at-step")
def scalar_graph_at_step(runs: Mapping[str, Run], run: str, mode: str, batch: str, step: int, limit: int) -> Rows:
    rows: Rows = []
    for t in spelt_out(runs, run, batch, step):
        g = t.scalars
        for at, (a, b) in enumerate(zip(g.source.tolist(), g.target.tolist(), strict=True)):
            weight, gradient = float(g.weight[at]), float(g.gradient[b])
            rows.append(
                {
                    "edge": at,
                    "source": t.graph.vertices[g.vertex[a]].name,
                    "source_index": int(g.index[a]),
                    "target": t.graph.vertices[g.vertex[b]].name,
                    "target_index": int(g.index[b]),
                    "component": g.component[b],
                    "slot": int(g.slot[at]),
                    "weight": weight,
                    "gradient": gradient,
                    "flow": abs(weight * gradient),
                    "taken": mode in g.next and int(g.next[mode][a]) == at,
                }
            )
    return rows[:limit]


@answers("scalar-path")
def scalar_path(
    runs: Mapping[str, Run], run: str, parameter: str, scalar: int | None, mode: str, batch: str, step: int
) -> Rows:
    rows: Rows = []
    for t in spelt_out(runs, run, batch, step):
        g, ways = t.scalars, t.scalars.next.get(mode)
        starts = [
            v
            for v in range(len(g.vertex))
            if t.graph.vertices[g.vertex[v]].kind == "parameter"
            and t.graph.vertices[g.vertex[v]].name == parameter
            and scalar in (None, int(g.index[v]))
            and ways is not None
            and ways[v] >= 0
        ]
        if not starts or ways is None:
            continue
        at = start = max(starts, key=lambda v: (_size(float(g.gradient[v])), -v))
        while ways[at] >= 0:
            edge, before = int(ways[at]), at
            at = int(g.target[edge])
            vertex = t.graph.vertices[g.vertex[at]]
            rows.append(
                {
                    "hop": len(rows) + 1,
                    "scalar": int(g.index[start]),
                    "operator": vertex.name,
                    "op": vertex.op,
                    "index": int(g.index[at]),
                    "component": g.component[at],
                    "weight": float(g.weight[edge]),
                    "gradient": float(g.gradient[at]),
                    "ways": int((g.source == before).sum()),
                }
            )
        assert at == g.loss
    return rows


def _size(gradient: float) -> float:
    return abs(gradient) if math.isfinite(gradient) else -1.0
