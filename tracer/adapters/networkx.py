"""The operator graph of a trace as a NetworkX graph."""

from __future__ import annotations

from typing import Any

import networkx as nx

from gradtrace.tracer.result import Trace
from gradtrace.tracer.steptrace import BatchTrace

__all__ = ["to_networkx"]


def to_networkx(trace: Trace | BatchTrace, mode: str | None = None) -> nx.MultiDiGraph:
    """The operator graph, an edge from each tensor to each operator that read it, with the trace's numbers.

    Nodes are `Vertex.idx`, with `kind`, `op`, `name`, `component`, `shape` (as text, `"32x10"`) and `time`; edges have the
    operand slot as key, and `idx`, `flow`, `peak`, `traffic`, `mass` and `dominant`. Values that are None are left out, so
    that every attribute can be written (`nx.write_graphml`). The graph has `name`, `fingerprint`, `mode`, `batch`, `loss`.

    Args:
        trace: a `Trace`, or the `BatchTrace` that a sink was given.
        mode: which mode of a `Trace`; its first one if None.
    """
    batch = trace.batch_trace(mode) if isinstance(trace, Trace) else trace
    graph = batch.graph
    made: nx.MultiDiGraph = nx.MultiDiGraph(
        name=graph.name, fingerprint=graph.fingerprint, mode=batch.mode, batch=batch.batch, loss=batch.loss
    )
    for v in graph.vertices:
        row: dict[str, Any] = {
            "kind": v.kind,
            "op": v.op,
            "name": v.name,
            "component": v.component,
            "shape": "x".join(map(str, v.shape)),
            "time": v.time,
        }
        made.add_node(v.idx, **{name: value for name, value in row.items() if value is not None})
    columns = {name: getattr(batch, name).tolist() for name in ("flow", "peak", "traffic", "mass", "dominant")}
    for e in graph.edges:
        made.add_edge(
            e.source, e.target, e.slot, idx=e.idx, **{name: values[e.idx] for name, values in columns.items()}
        )
    return made
