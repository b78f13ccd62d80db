"""Scalar graphs as JSON values and back, exactly. Columns are lists; components are listed once and named by number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradtrace.tracer.graph import Graph
from gradtrace.tracer.scalargraph import ScalarGraph, ScalarTrace

Json = Any
_WHOLE = ("vertex", "output", "index", "source", "target", "slot", "edge")
_FLOATS = ("gradient", "weight")


def scalars_to_json(trace: ScalarTrace) -> dict[str, Json]:
    """A scalar graph as a JSON object; its operator graph is named by fingerprint."""
    held = trace.scalars
    names = list(dict.fromkeys(held.component))
    place = {name: at for at, name in enumerate(names)}
    return {
        "batch": trace.batch,
        "graph": trace.graph.fingerprint,
        "loss": held.loss,
        **{name: getattr(held, name).tolist() for name in _WHOLE},
        **{name: [_number(x) for x in getattr(held, name).tolist()] for name in _FLOATS},
        "components": names,
        "component": [place[name] for name in held.component],
        "next": {mode: chosen.tolist() for mode, chosen in held.next.items()},
    }


def scalars_from_json(value: Mapping[str, Json], graph: Graph) -> ScalarTrace:
    """The scalar graph that `scalars_to_json` wrote, of the operator graph that it names."""
    names = value["components"]
    held = ScalarGraph(
        **{name: np.array(value[name], np.int64) for name in _WHOLE},
        **{name: np.array([float(x) for x in value[name]], np.float64) for name in _FLOATS},
        component=tuple(names[at] for at in value["component"]),
        next={mode: np.array(chosen, np.int64) for mode, chosen in value["next"].items()},
        loss=value["loss"],
    )
    return ScalarTrace(value["batch"], graph, held)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
