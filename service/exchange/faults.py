"""Is a step from a file one that a store can take? What the store would refuse in the middle of an import, or take and be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradtrace.service.store.keys import crossed
from gradtrace.service.store.writer import unstorable
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.spreadtrace import SPREAD_MODES, SpreadTrace
from gradtrace.tracer.steptrace import ALL_PARAMETERS, BATCHES, MODES, BatchTrace, StepTrace


def fault(step: StepTrace, known: set[str]) -> str | None:
    """Why a step cannot be stored as it is, or None.

    Args:
        step: the step.
        known: fingerprints of graphs that were looked at; those of this step are added.
    """
    if reason := unstorable(step):
        return reason
    return next(_faults(step, known), None)


def _faults(step: StepTrace, known: set[str]) -> Iterator[str]:
    for graph in step.graphs:
        if graph.fingerprint not in known:
            yield from (f"its graph {graph.fingerprint} {reason}" for reason in _of_graph(graph))
            known.add(graph.fingerprint)
    names = [f"{t.mode} on the {t.batch} batch" for t in step.traces]
    names += [f"{s.mode} on the {s.batch} batch" for s in step.spreads]
    yield from _twice("trace", names)
    for trace in step.traces:
        yield from (f"its {trace.mode} trace {reason}" for reason in _of_trace(trace))
    for spread in step.spreads:
        yield from (f"its sums in mode {spread.mode} {reason}" for reason in _of_spread(spread))


def _of_graph(graph: Graph) -> Iterator[str]:
    paths = graph.component_by_path.keys()
    yield from _twice("component", [c.path for c in graph.components])
    for named in (*(v.component for v in graph.vertices), *(c.parent for c in graph.components)):
        if named is not None and named not in paths:
            yield f"names the component {named!r}, which it does not list"
    count = len(graph.vertices)
    for e in graph.edges:
        if not (0 <= e.source < count and 0 <= e.target < count):
            yield f"has an edge from {e.source} to {e.target}, and {count} vertices"


def _of_trace(trace: BatchTrace) -> Iterator[str]:
    graph = trace.graph
    if trace.mode not in MODES or trace.batch not in BATCHES:
        yield f"has the mode {trace.mode!r} and the batch {trace.batch!r}"
    yield from _of_parameters(graph, [(p.parameter, p.vertex) for p in trace.parameters])
    yield from _of_components(graph, [c.component for c in trace.components])
    for p in trace.parameters:
        path = p.strongest
        if path is not None and any(not 0 <= at < len(graph.vertices) for at in path.vertices):
            yield f"has a path of {p.parameter} over vertices that the graph has not"
        if path is not None and not {len(path.index), len(path.weight), len(path.gradient)} <= {0, len(path.vertices)}:
            yield f"has a path of {p.parameter} whose arrays have other lengths than its {len(path.vertices)} operators"
    known = {ALL_PARAMETERS, *(p.parameter for p in trace.parameters)}
    for r in trace.routes:
        if r.parameter not in known:
            yield f"has a route of {r.parameter!r}, which it has no parameter of"
        if missing := sorted(crossed(r.route or ()) - graph.component_by_path.keys()):
            yield f"has a route over {missing[0]!r}, which the graph has no component of"
    yield from _twice("rank among routes", [f"{r.parameter}/{r.rank}" for r in trace.routes])


def _of_spread(spread: SpreadTrace) -> Iterator[str]:
    if spread.mode not in SPREAD_MODES or spread.batch not in BATCHES:
        yield f"have the batch {spread.batch!r}"
    yield from _of_parameters(spread.graph, [(p.parameter, p.vertex) for p in spread.parameters])
    yield from _of_components(spread.graph, [c.component for c in spread.components])


def _of_parameters(graph: Graph, rows: Sequence[tuple[str, int]]) -> Iterator[str]:
    for name, at in rows:
        v = graph.vertices[at] if 0 <= at < len(graph.vertices) else None
        if v is None or v.kind != "parameter" or v.name != name:
            yield f"says that vertex {at} is the parameter {name!r}, which it is not"
    yield from _twice("parameter", [name for name, _ in rows])


def _of_components(graph: Graph, names: Sequence[str]) -> Iterator[str]:
    if missing := sorted(set(names) - graph.component_by_path.keys()):
        yield f"has a share of {missing[0]!r}, which the graph has no component of"
    yield from _twice("component", names)


def _twice(what: str, names: Sequence[str]) -> Iterator[str]:
    if len(set(names)) < len(names):
        yield f"has a {what} twice: {next(n for n in names if names.count(n) > 1)}"
