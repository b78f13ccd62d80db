"""Graphs, steps and runs as JSON values and back, exactly.

Strict JSON has no NaN and no infinities, so a float that is not finite is written as the string `"nan"`, `"inf"` or
`"-inf"`; all other floats are written with as many digits as it takes to read the same float back.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from gradtrace.tracer.errors import SinkError
from gradtrace.tracer.graph import Component, Edge, Graph, Vertex
from gradtrace.tracer.sinks.scalar_records import scalars_from_json, scalars_to_json
from gradtrace.tracer.spreadtrace import ComponentSpread, ParameterSpread, SpreadTrace
from gradtrace.tracer.steptrace import (
    BatchTrace,
    ComponentShare,
    DominantPath,
    OnDemand,
    ParameterTrace,
    RouteShare,
    RunRecord,
    StepTrace,
)

Json = Any
_FLOAT_ARRAYS = ("flow", "peak", "mass")


def run_to_json(run: RunRecord) -> dict[str, Json]:
    """A run as a JSON object."""
    return {
        "id": run.id,
        "workload": run.workload,
        "experiment": run.experiment,
        "parameters": {k: _number(v) if isinstance(v, float) else v for k, v in run.parameters.items()},
        "floats": sorted(k for k, v in run.parameters.items() if isinstance(v, float) and not math.isfinite(v)),
        "modes": list(run.modes),
    }


def run_from_json(value: dict[str, Json]) -> RunRecord:
    """The run that `run_to_json` wrote."""
    parameters = {k: float(v) if k in value["floats"] else v for k, v in value["parameters"].items()}
    return RunRecord(value["id"], value["workload"], value["experiment"], parameters, tuple(value["modes"]))


def graph_to_json(graph: Graph) -> dict[str, Json]:
    """A graph as a JSON object, rows as lists in the order of the dataclass fields (`idx` is the row's position)."""
    return {
        "fingerprint": graph.fingerprint,
        "name": graph.name,
        "folded": graph.folded,
        "vertices": [[v.kind, v.op, v.name, v.component, list(v.shape), v.time] for v in graph.vertices],
        "edges": [[e.source, e.target, e.slot] for e in graph.edges],
        "components": [[c.path, c.name, c.role, c.depth, c.parent] for c in graph.components],
    }


def graph_from_json(value: dict[str, Json]) -> Graph:
    """The graph that `graph_to_json` wrote.

    Raises:
        SinkError: its fingerprint is not the one that was written: the record was changed, or another version made it.
    """
    graph = Graph(
        name=value["name"],
        folded=value["folded"],
        vertices=tuple(_vertex(i, *row) for i, row in enumerate(value["vertices"])),
        edges=tuple(Edge(i, *row) for i, row in enumerate(value["edges"])),
        components=tuple(Component(*row) for row in value["components"]),
    )
    if graph.fingerprint != value["fingerprint"]:
        raise SinkError(
            f"The graph record {value['fingerprint']} has the fingerprint {graph.fingerprint}: it was changed, "
            "or written by another version of gradtrace. Trace again, or read it with that version."
        )
    return graph


def _vertex(
    idx: int, kind: str, op: str, name: str, component: str | None, shape: list[int], time: int | None
) -> Vertex:
    return Vertex(idx, kind, op, name, component, tuple(shape), time)


def step_to_json(step: StepTrace) -> dict[str, Json]:
    """A step as a JSON object; its graphs are named by fingerprint."""
    return {
        "run": step.run,
        "step": step.step,
        "epoch": step.epoch,
        "loss": _number(step.loss),
        "watched": list(step.watched),
        "notes": list(step.notes),
        "traces": [_trace_to_json(t) for t in step.traces],
        "spreads": [_spread_to_json(t) for t in step.spreads],
        "scalars": [scalars_to_json(t) for t in step.scalars],
    }


def step_from_json(value: dict[str, Json], graphs: dict[str, Graph]) -> StepTrace:
    """The step that `step_to_json` wrote, with its graphs from `graphs`.

    Raises:
        SinkError: a graph of it is missing in `graphs`.
    """
    return StepTrace(
        run=value["run"],
        step=value["step"],
        epoch=value["epoch"],
        loss=float(value["loss"]),
        traces=tuple(_trace_from_json(t, graphs) for t in value["traces"]),
        watched=tuple(value["watched"]),
        notes=tuple(value["notes"]),
        spreads=tuple(_spread_from_json(t, graphs) for t in value.get("spreads", ())),
        scalars=tuple(scalars_from_json(t, _graph(t, graphs)) for t in value.get("scalars", ())),
    )


def _spread_to_json(spread: SpreadTrace) -> dict[str, Json]:
    return {
        "mode": spread.mode,
        "batch": spread.batch,
        "graph": spread.graph.fingerprint,
        "loss": _number(spread.loss),
        "non_finite": spread.non_finite,
        "parameters": [_row(p) for p in spread.parameters],
        "components": [_row(c) for c in spread.components],
    }


def _spread_from_json(value: dict[str, Json], graphs: dict[str, Graph]) -> SpreadTrace:
    return SpreadTrace(
        mode=value["mode"],
        batch=value["batch"],
        graph=_graph(value, graphs),
        loss=float(value["loss"]),
        non_finite=value["non_finite"],
        parameters=tuple(
            ParameterSpread(
                name, vertex, tuple(shape), live, float(mass), float(total), _optional(part), _optional(entropy)
            )
            for name, vertex, shape, live, mass, total, part, entropy in value["parameters"]
        ),
        components=tuple(
            ComponentSpread(
                name, float(share), float(total), float(own), float(foreign), _optional(coherence), _optional(entropy)
            )
            for name, share, total, own, foreign, coherence, entropy in value["components"]
        ),
    )


def _optional(value: Json) -> float | None:
    return None if value is None else float(value)


def _graph(value: dict[str, Json], graphs: dict[str, Graph]) -> Graph:
    graph = graphs.get(value["graph"])
    if graph is None:
        raise SinkError(f"A step refers to the graph {value['graph']}, of which there is no record before it.")
    return graph


def _trace_to_json(trace: BatchTrace) -> dict[str, Json]:
    return {
        "mode": trace.mode,
        "batch": trace.batch,
        "graph": trace.graph.fingerprint,
        "loss": _number(trace.loss),
        "non_finite": trace.non_finite,
        "consistent": trace.consistent,
        **{name: _numbers(getattr(trace, name)) for name in _FLOAT_ARRAYS},
        "traffic": trace.traffic.tolist(),
        "dominant": np.flatnonzero(trace.dominant).tolist(),
        "parameters": [_row(p) for p in trace.parameters],
        "components": [_row(c) for c in trace.components],
        "routes": [_row(r) for r in trace.routes],
    }


def _trace_from_json(value: dict[str, Json], graphs: dict[str, Graph]) -> BatchTrace:
    graph = _graph(value, graphs)
    dominant = np.zeros(len(graph.edges), bool)
    dominant[value["dominant"]] = True
    return BatchTrace(
        mode=value["mode"],
        batch=value["batch"],
        graph=graph,
        loss=float(value["loss"]),
        traffic=np.array(value["traffic"], np.int64),
        dominant=dominant,
        non_finite=value["non_finite"],
        consistent=value["consistent"],
        parameters=tuple(_parameter(row) for row in value["parameters"]),
        components=tuple(_component(row) for row in value["components"]),
        routes=tuple(_route(row) for row in value["routes"]),
        **{name: np.array([float(x) for x in value[name]], np.float64) for name in _FLOAT_ARRAYS},
    )


def _row(item: Json) -> list[Json]:
    """The fields of a dataclass as a list, nested ones likewise."""
    return [_cell(getattr(item, f.name)) for f in fields(item)]


def _cell(value: Json) -> Json:
    if isinstance(value, DominantPath):
        return _row(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, tuple | OnDemand):
        return [_number(x) if isinstance(x, float) else x for x in value]
    return value


def _parameter(row: list[Json]) -> ParameterTrace:
    name, vertex, shape, traffic, mass, dead, unread, non_finite, strongest = row
    path = None if strongest is None else _path(strongest)
    return ParameterTrace(name, vertex, tuple(shape), traffic, float(mass), dead, unread, non_finite, path)


def _path(row: list[Json]) -> DominantPath:
    scalar, vertices, index, weight, gradient, parameter_gradient, mass, share, margin, concentration, *at = row
    example, time = at
    return DominantPath(
        scalar=scalar,
        vertices=tuple(vertices),
        index=tuple(index),
        weight=tuple(float(x) for x in weight),
        gradient=tuple(float(x) for x in gradient),
        parameter_gradient=float(parameter_gradient),
        mass=float(mass),
        share=float(share),
        margin=float(margin),
        concentration=float(concentration),
        example=example,
        time=time,
    )


def _component(row: list[Json]) -> ComponentShare:
    component, share, mass, traffic, visits, own, foreign, contested, won, flow, *begun = row
    times, time_mass, examples, example_mass = begun or ((), (), (), ())  # older files have none
    return ComponentShare(
        component,
        float(share),
        float(mass),
        traffic,
        float(visits),
        float(own),
        float(foreign),
        contested,
        won,
        float(flow),
        tuple(times),
        tuple(float(m) for m in time_mass),
        tuple(examples),
        tuple(float(m) for m in example_mass),
    )


def _route(row: list[Json]) -> RouteShare:
    parameter, route, traffic, mass, share, rank = row
    return RouteShare(parameter, None if route is None else tuple(route), traffic, float(mass), float(share), rank)


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))


def _numbers(values: np.ndarray) -> list[float | str]:
    return values.tolist() if np.isfinite(values).all() else [_number(x) for x in values.tolist()]
