"""Random but valid StepTraces, made without torch: for tests and benchmarks of everything behind the tracer.

The structure depends on the structural arguments alone, so all steps of a run share one `Graph`; the values depend on
`seed`, run, step, mode and batch. Every number is computed from explicit groups of traces (each a walk from a parameter
to the loss), so that traffic is conserved, shares add up, strongest paths walk over edges, and dominant flags, routes
and components agree with the masses. `tests/valid_steps.py` states what valid means.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gradtrace.tracer.component_names import ancestors
from gradtrace.tracer.graph import Edge, Graph
from gradtrace.tracer.scalargraph import ScalarTrace
from gradtrace.tracer.spreadtrace import ComponentSpread, ParameterSpread, SpreadTrace
from gradtrace.tracer.steptrace import (
    ALL_PARAMETERS,
    BatchTrace,
    ComponentShare,
    DominantPath,
    ParameterTrace,
    RouteShare,
    RunRecord,
    StepTrace,
)
from tests.synthetic_graph import make_graph
from tests.synthetic_scalars import scalar_trace

BATCH_SIZES = {"training": 32, "probe": 8}


@dataclass(frozen=True)
class _Group:
    """Some scalars of one parameter whose traces take the same way: edge indices, number of traces, their mass."""

    parameter: int
    edges: tuple[int, ...]
    traffic: int
    mass: float


def run_record(
    run: str = "run-1",
    *,
    workload: str = "synthetic",
    experiment: str = "default",
    modes: tuple[str, ...] = ("greedy",),
    **parameters: str | float | bool | None,
) -> RunRecord:
    """A run with a few hyperparameters (`lr`, `seed`, `schedule`) and those given by name."""
    values: dict[str, str | int | float | bool | None] = {"lr": 0.1, "seed": 0, "schedule": "cosine", "warmup": None}
    return RunRecord(id=run, workload=workload, experiment=experiment, parameters=values | parameters, modes=modes)


def step_trace(
    run: str,
    step: int,
    *,
    epoch: int = 0,
    seed: int = 0,
    vertices: int = 40,
    parameters: int = 6,
    modes: tuple[str, ...] = ("greedy",),
    batches: tuple[str, ...] = ("training",),
    structure: int = 0,
    top_routes: int = 3,
    watched: tuple[str, ...] = (),
    novelty: float = 1.0,
    spreads: tuple[str, ...] = (),
    scalars: bool = False,
) -> StepTrace:
    """One random step.

    Args:
        vertices, parameters, structure: the structural arguments; equal ones give an equal `Graph`. Of 4 or more
            parameters the last one is read by no operator.
        batches: traced batches, training before probe. The probe batch has other shapes, hence a graph of its own.
        top_routes: routes kept per parameter (twice as many overall); the rest is summed as "other".
        novelty: share of the parameters whose traces take new ways at each step; the others return to ways that are
            fixed for the seed, as in training.
        spreads: modes that sum over all paths.
        scalars: whether it has scalar graphs (see `synthetic_scalars`).

    Every seventh step is non-finite (an inf and a NaN among flows and peaks, non-finite parameter scalars), and every
    fourteenth has a NaN loss.
    """
    losses = {b: _loss(run, step, seed, b) for b in batches}
    traces: list[BatchTrace] = []
    sums: list[SpreadTrace] = []
    spelt_out: list[ScalarTrace] = []
    for batch in batches:
        graph = make_graph(vertices, parameters, structure, BATCH_SIZES[batch])
        traces.extend(
            _batch_trace(graph, mode, batch, losses[batch], run, step, seed, top_routes, novelty) for mode in modes
        )
        sums.extend(_spread(graph, mode, batch, losses[batch], [seed, step, len(sums)]) for mode in spreads)
        if scalars:
            rng = _rng(run, step, seed, batch, "scalars")
            spelt_out.append(scalar_trace(graph, batch, modes, rng, broken=step % 7 == 6))
    return StepTrace(
        run=run,
        step=step,
        epoch=epoch,
        loss=losses[batches[0]],
        traces=tuple(traces),
        watched=watched,
        notes=("Σ w·g differs from g behind a hook",) if step % 7 == 3 else (),
        spreads=tuple(sums),
        scalars=tuple(spelt_out),
    )


def _loss(run: str, step: int, seed: int, batch: str) -> float:
    if step % 14 == 13:
        return math.nan
    return float(_rng(run, step, seed, batch).uniform(0.5, 1.5) / (1 + 0.01 * step))


def _rng(run: str, step: int, seed: int, *more: str) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32("\0".join((run, *more)).encode()), step, seed])


def _groups(graph: Graph, rng: np.random.Generator, live: dict[int, int], seed: int, novelty: float) -> list[_Group]:
    out = _ways_out(graph)
    groups = []
    for vertex, count in live.items():
        ways = rng if rng.random() < novelty else np.random.default_rng([vertex, seed])
        parts = min(count, 1 + int(ways.integers(6)))
        cuts = sorted(rng.choice(np.arange(1, count), size=parts - 1, replace=False).tolist()) if parts > 1 else []
        for traffic in np.diff([0, *cuts, count]).tolist():
            line, at = [], vertex
            while at != graph.loss.idx:
                edge = out[at][-1 - int(ways.random() ** 2 * len(out[at]))]  # mostly the longest step ahead
                line.append(edge.idx)
                at = edge.target
            groups.append(_Group(vertex, tuple(line), traffic, traffic * float(rng.lognormal(-3, 1.5))))
    return groups


@lru_cache(maxsize=64)
def _ways_out(graph: Graph) -> dict[int, list[Edge]]:
    out: dict[int, list[Edge]] = {}
    for e in graph.edges:
        out.setdefault(e.source, []).append(e)
    return out


def _batch_trace(
    graph: Graph, mode: str, batch: str, loss: float, run: str, step: int, seed: int, top_routes: int, novelty: float
) -> BatchTrace:
    values = _rng(run, step, seed, batch)  # flow and peak are equal for all modes
    rng = _rng(run, step, seed, batch, mode)
    count, bad = len(graph.edges), step % 7 == 6
    read = {e.source for e in graph.edges}
    counts: dict[int, tuple[int, int, int, int]] = {}  # live, dead, unread, non-finite
    for v in graph.vertices:
        if v.kind != "parameter":
            continue
        size = math.prod(v.shape)
        dead = int(rng.integers(0, max(1, size // 3)))
        unread = int(rng.integers(0, 3)) if len(v.shape) == 2 else 0
        counts[v.idx] = (size - dead - unread, dead, unread, min(dead, 1) if bad else 0)
        if v.idx not in read:
            counts[v.idx] = (0, 0, size, 0)
    groups = _groups(graph, rng, {v: c[0] for v, c in counts.items() if c[0]}, seed, novelty)
    traffic, mass = np.zeros(count, np.int64), np.zeros(count)
    for g in groups:
        traffic[list(g.edges)] += g.traffic  # a walk crosses no edge twice
        mass[list(g.edges)] += g.mass
    dominant = np.zeros(count, bool)
    for edges in _ways_out(graph).values():
        out = [e.idx for e in edges]
        if mass[out].max() > 0:
            dominant[out[int(mass[out].argmax())]] = True
    flow = values.lognormal(0, 1, count)
    peak = flow * values.uniform(0.05, 1, count)
    for e in graph.edges:
        if graph.vertices[e.source].kind == "constant":
            flow[e.idx] = peak[e.idx] = 0.0
    if bad:
        flow[0], peak[0], flow[-1], peak[-1] = math.inf, math.inf, math.nan, math.nan
    return BatchTrace(
        mode=mode,
        batch=batch,
        graph=graph,
        loss=loss,
        flow=flow,
        peak=peak,
        traffic=traffic,
        mass=mass,
        dominant=dominant,
        non_finite=bad or not math.isfinite(loss),
        parameters=tuple(_parameter(graph, v, c, groups, rng) for v, c in counts.items()),
        components=_components(graph, groups, flow),
        routes=_routes(graph, groups, top_routes),
        consistent=step % 7 != 3,
    )


def _parameter(
    graph: Graph, vertex: int, counts: tuple[int, int, int, int], groups: list[_Group], rng: np.random.Generator
) -> ParameterTrace:
    v = graph.vertices[vertex]
    own = [g for g in groups if g.parameter == vertex]
    total = math.fsum(g.mass for g in own)
    strongest = None
    if own:
        best = max(own, key=lambda g: g.mass / g.traffic)
        line = tuple(graph.edges[e].target for e in best.edges)
        weight = rng.normal(0, 0.6, len(line))
        gradient = rng.normal(0, 0.1, len(line))
        gradient[-1] = 1.0
        value = best.mass / best.traffic
        times = [t for t in (graph.vertices[u].time for u in line) if t is not None]
        strongest = DominantPath(
            scalar=int(rng.integers(math.prod(v.shape))),
            vertices=line,
            index=tuple(int(rng.integers(max(1, math.prod(graph.vertices[u].shape)))) for u in line),
            weight=tuple(weight.tolist()),
            gradient=tuple(gradient.tolist()),
            parameter_gradient=value * (1 if rng.random() < 0.5 else -1),
            mass=value,
            share=value / total,
            margin=math.inf if rng.random() < 0.2 else float(1 + rng.exponential()),
            concentration=float(abs(np.prod(weight))) / value,
            example=int(rng.integers(8)) if rng.random() < 0.8 else None,
            time=times[0] if times else None,
        )
    live, dead, unread, non_finite = counts
    return ParameterTrace(v.name, vertex, v.shape, live, total, dead, unread, non_finite, strongest)


@lru_cache(maxsize=64)
def _inside(graph: Graph) -> list[frozenset[str]]:
    """Per vertex the components that it belongs to, ancestors included."""
    return [frozenset(ancestors(v.component)) if v.component else frozenset() for v in graph.vertices]


@lru_cache(maxsize=64)
def _crossed(graph: Graph) -> tuple[list[list[str]], list[list[tuple[str, bool]]]]:
    """Per edge the components that it enters, and those for which leaving its source is contested, with the winner."""
    inside = _inside(graph)
    targets: dict[int, list[int]] = {}
    for e in graph.edges:
        targets.setdefault(e.source, []).append(e.target)
    entered, contested = [], []
    for e in graph.edges:
        entered.append(sorted(inside[e.target] - inside[e.source]))
        near = [inside[t] for t in targets[e.source]]
        mixed = frozenset().union(*near) - frozenset.intersection(*near)
        contested.append([(c, c in inside[e.target]) for c in sorted(mixed)])
    return entered, contested


def _components(graph: Graph, groups: list[_Group], flow: np.ndarray) -> tuple[ComponentShare, ...]:
    inside = _inside(graph)
    entered, contested = _crossed(graph)
    visits: dict[str, Counter[int]] = {c.path: Counter() for c in graph.components}  # entries by group
    forks = {c.path: [0, 0] for c in graph.components}
    flows: dict[str, list[float]] = {c.path: [] for c in graph.components}
    for e in graph.edges:
        for c in entered[e.idx]:
            flows[c].append(flow[e.idx])
    for n, g in enumerate(groups):
        for c in inside[graph.edges[g.edges[0]].target]:  # a trace enters what its first operator is in
            visits[c][n] += 1
        for place, edge in enumerate(g.edges):
            for c in entered[edge] if place else ():
                visits[c][n] += 1
            for c, won in contested[edge]:
                forks[c][0] += g.traffic
                forks[c][1] += g.traffic * won
    total_mass, total = math.fsum(g.mass for g in groups), sum(g.traffic for g in groups)
    rows = []
    for path, counts in visits.items():
        whole = math.fsum(groups[n].mass for n in counts)
        own = math.fsum(groups[n].mass for n in counts if path in inside[groups[n].parameter])
        rows.append(
            ComponentShare(
                component=path,
                share=min(1.0, whole / total_mass) if total_mass else 0.0,
                mass=whole,
                traffic=sum(groups[n].traffic for n in counts),
                visits=sum(k * groups[n].traffic for n, k in counts.items()) / total if total else 0.0,
                own=own,
                foreign=whole - own,
                contested=forks[path][0],
                won=forks[path][1],
                flow=math.fsum(flows[path]),
                **_begun({n: groups[n].mass for n in counts}),
            )
        )
    return tuple(rows)


def _begun(masses: dict[int, float]) -> dict[str, Any]:
    """Time steps and examples in which groups begin: made up, of three and of four."""
    found: dict[str, Any] = {}
    for what, masses_of, number in (("times", "time_mass", 3), ("examples", "example_mass", 4)):
        sums = [math.fsum(m for n, m in masses.items() if n % number == k) for k in range(number)]
        kept = sorted((k for k in range(number) if sums[k] > 0), key=lambda k: -sums[k])
        found[what], found[masses_of] = tuple(kept), tuple(sums[k] for k in kept)
    return found


def _spread(graph: Graph, mode: str, batch: str, loss: float, seed: list[int]) -> SpreadTrace:
    """Sums over all paths, made up: what they mean is known to nobody behind the tracer."""
    rng = np.random.default_rng(seed)

    def numbers(count: int) -> list[float]:
        return [float(x) for x in rng.random(count)]

    def entropy(there: bool) -> float | None:
        return float(rng.random() * 9) if there and mode == "entropy" else None

    parameters = []
    for v in (v for v in graph.vertices if v.kind == "parameter"):
        live = int(rng.integers(0, math.prod(v.shape) + 1))
        mass, total = numbers(2) if live else (0.0, 0.0)
        share = float(rng.random()) if live else None
        parameters.append(ParameterSpread(v.name, v.idx, v.shape, live, mass, total, share, entropy(live > 0)))
    components = tuple(
        ComponentSpread(c.path, *numbers(4), float(rng.random()) if at % 2 else None, entropy(at % 2 > 0))
        for at, c in enumerate(graph.components)
    )
    return SpreadTrace(mode, batch, graph, loss, False, tuple(parameters), components)


def _routes(graph: Graph, groups: list[_Group], top: int) -> tuple[RouteShare, ...]:
    by: dict[str, dict[tuple[str, ...], list[_Group]]] = {ALL_PARAMETERS: {}}
    for g in groups:
        crossed = [graph.vertices[graph.edges[e].target].component for e in g.edges]
        route = collapse(tuple(c for c in crossed if c is not None))
        for name in (ALL_PARAMETERS, graph.vertices[g.parameter].name):
            by.setdefault(name, {}).setdefault(route, []).append(g)
    rows = []
    for name, routes in by.items():
        total = math.fsum(g.mass for held in routes.values() for g in held)
        kept = 2 * top if name == ALL_PARAMETERS else top
        ranked = sorted(routes.items(), key=lambda item: (-math.fsum(g.mass for g in item[1]), item[0]))
        parts: list[tuple[tuple[str, ...] | None, list[_Group]]] = list(ranked[:kept])
        if len(ranked) > kept:
            parts.append((None, [g for _, held in ranked[kept:] for g in held]))
        for rank, (line, taken) in enumerate(parts, 1):
            mass = math.fsum(g.mass for g in taken)
            share = min(1.0, mass / total) if total else 0.0
            rows.append(RouteShare(name, line, sum(g.traffic for g in taken), mass, share, rank))
    return tuple(rows)


@lru_cache(maxsize=4096)
def collapse(line: tuple[str, ...]) -> tuple[str, ...]:
    """Repeats in a row collapsed, shortest block first, left to right, to a fixed point.

    >>> collapse(("a", "b", "c", "b", "c", "d", "d"))
    ('a', '(', 'b', 'c', ')+', 'd+')
    """
    items: list[tuple[str, ...]] = [(name,) for name in line]  # an item is one token or one collapsed block
    width = 1
    while width <= len(items) // 2:
        found = False
        start = 0
        while start + 2 * width <= len(items):
            block = items[start : start + width]
            stop = start + width
            while items[stop : stop + width] == block:
                stop += width
            if stop > start + width:
                flat = tuple(token for item in block for token in item)
                single = len(flat) == 1 and not flat[0].endswith("+")
                plus = (flat[0] + "+",) if single else flat if width == 1 else ("(", *flat, ")+")
                items[start:stop] = [plus]
                found = True
            start += 1
        width = 1 if found else width + 1
    return tuple(token for item in items for token in item)
