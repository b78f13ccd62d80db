"""Steps read back from the store, a page at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from neo4j import ManagedTransaction, Record

from gradtrace.service.store.keys import OTHER_ROUTE, step_key
from gradtrace.service.store.read_graphs import StoredGraphs
from gradtrace.service.store.read_scalars import scalars_of
from gradtrace.tracer.errors import StoreError, StoreIntegrityError
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.spreadtrace import SPREAD_MODES, ComponentSpread, ParameterSpread, SpreadTrace
from gradtrace.tracer.steptrace import (
    BATCHES,
    MODES,
    BatchTrace,
    ComponentShare,
    DominantPath,
    ParameterTrace,
    RouteShare,
    StepTrace,
)

_CACHED = 50_000
_STEPS = """
MATCH (s:Step) WHERE s.run = $run AND s.step > $after AND s.step <= $most
WITH s ORDER BY s.step LIMIT $page
RETURN properties(s) AS held, EXISTS { (s)-[:HAS_SCALARS]->() } AS scalars
ORDER BY held.step
"""
_TRACES = """
UNWIND $keys AS key
MATCH (s:Step {key: key})-[:HAS_TRACE]->(t:Trace)-[:ON]->(g:Graph)
RETURN s.step AS step, properties(t) AS held, g.fingerprint AS graph,
       COLLECT { MATCH (t)-[l:LEFT]->(v:Parameter)
                 RETURN [v.idx, l.traffic, l.mass, l.dead, l.unread, l.non_finite] } AS left,
       COLLECT { MATCH (t)-[d:DOMINANT]->(p:Path)
                 RETURN [d.parameter, p.hash, d.scalar, d.index, d.weight, d.gradient, d.parameter_gradient, d.mass, d.share,
                         d.margin, d.concentration, d.example, d.time] } AS dominant,
       COLLECT { MATCH (t)-[c:CARRIES]->(k:Component)
                 RETURN [k.path, c.share, c.mass, c.traffic, c.visits, c.own, c.foreign, c.contested, c.won, c.flow,
                         c.times, c.time_mass, c.examples, c.example_mass] } AS carries,
       COLLECT { MATCH (t)-[x:TOP]->(n:Route) RETURN [x.parameter, n.hash, x.traffic, x.mass, x.rank] } AS routes
"""
_SPREADS = """
UNWIND $keys AS key
MATCH (s:Step {key: key})-[x:SPREAD]->(v:Parameter)<-[:HAS]-(g:Graph)
RETURN s.step AS step, x.batch AS batch, x.mode AS mode, g.fingerprint AS graph, v.idx AS target,
       [x.live, x.mass, x.abs_sum, x.coherence, x.entropy] AS numbers
"""
_SPREADS_IN = """
UNWIND $keys AS key
MATCH (s:Step {key: key})-[x:SPREAD_IN]->(c:Component)
RETURN s.step AS step, x.batch AS batch, x.mode AS mode, c.path AS target,
       [x.share, x.abs_sum, x.own, x.foreign, x.coherence, x.entropy] AS numbers
"""
_PATHS = "UNWIND $hashes AS hash MATCH (p:Path {hash: hash}) RETURN p.hash, p.vertices"
_ROUTES = "UNWIND $hashes AS hash MATCH (n:Route {hash: hash}) RETURN n.hash, n.components"

_Which = tuple[int, str, str]  # step, batch, mode


class StepReader:
    """Reads the steps of one run; remembers the graphs, paths and routes that come back from step to step."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._graphs = StoredGraphs()
        self._paths: dict[str, tuple[int, ...]] = {}
        self._routes: dict[str, tuple[str, ...]] = {}

    def page(self, tx: ManagedTransaction, after: int, most: int, page: int) -> list[StepTrace]:
        """At most `page` steps whose numbers are greater than `after` and not greater than `most`, in order.

        Raises:
            StoreError: the detail of a step is not there.
            StoreIntegrityError: what the store holds is not what was written.
        """
        steps = list(tx.run(_STEPS, run=self._run, after=after, most=most, page=page))
        keys = [step_key(self._run, record["held"]["step"]) for record in steps]
        traces: dict[int, list[Record]] = {}
        for record in tx.run(_TRACES, keys=keys):
            traces.setdefault(record["step"], []).append(record)
        every = [record for held in traces.values() for record in held]
        self._learn(tx, self._paths, _PATHS, {row[1] for record in every for row in record["dominant"]})
        self._learn(tx, self._routes, _ROUTES, {row[1] for record in every for row in record["routes"]} - {OTHER_ROUTE})
        spreads = self._spreads(tx, keys)
        return [self._step(tx, record, traces, spreads) for record in steps]

    def _learn(self, tx: ManagedTransaction, known: dict[str, Any], query: str, wanted: set[str]) -> None:
        if len(known) > _CACHED:
            known.clear()
        missing = sorted(wanted - known.keys())
        if missing:
            known.update((key, tuple(held)) for key, held in tx.run(query, hashes=missing))

    def _step(
        self,
        tx: ManagedTransaction,
        record: Record,
        traces: Mapping[int, list[Record]],
        spreads: Mapping[_Which, tuple[str | None, list[Any], list[Any]]],
    ) -> StepTrace:
        held = record["held"]
        number = held["step"]
        if not traces.get(number):
            raise StoreError(
                f"Step {number} of run {self._run!r} has no traces: its detail was pruned. `gradtrace db prune` keeps sums "
                "over epochs and over the run; ask for a step that has its detail."
            )
        watched = tuple(held["watched"])
        made = [self._trace(tx, r, held, watched) for r in traces[number]]
        made.sort(key=lambda t: (_place(BATCHES, t.batch), _place(MODES, t.mode)))
        sums = self._sums(tx, held, made, spreads)
        scalars = tuple(scalars_of(tx, self._run, number, self._graphs)) if record["scalars"] else ()
        return StepTrace(
            run=self._run,
            step=number,
            epoch=held["epoch"],
            loss=held["loss"],
            traces=tuple(made),
            watched=watched,
            notes=tuple(held["notes"]),
            spreads=sums,
            scalars=scalars,
        )

    def _trace(
        self, tx: ManagedTransaction, record: Record, step: Mapping[str, Any], watched: tuple[str, ...]
    ) -> BatchTrace:
        held, graph = record["held"], self._graphs.get(tx, record["graph"])
        own = step if held["batch"] == step["batch"] else held
        paths = {row[0]: self._path(row) for row in record["dominant"]}
        detailed = {row[0] for row in record["dominant"] if row[3] is not None}
        rows = []
        for idx, traffic, mass, dead, unread, lost in record["left"]:
            v = graph.vertices[idx]
            path = paths.pop(v.name, None)
            rows.append(ParameterTrace(v.name, idx, v.shape, traffic, mass, dead, unread, lost, path))
        if paths:
            raise StoreIntegrityError(f"The trace {held['key']} has paths of {sorted(paths)}, which it does not count.")
        # Of equal masses, those whose arrays are stored come first: so a sink stores the arrays of the same ones again.
        rows.sort(key=lambda p: (p.parameter not in detailed, p.parameter in watched, p.vertex))
        place = {c.path: at for at, c in enumerate(graph.components)}
        return BatchTrace(
            mode=held["mode"],
            batch=held["batch"],
            graph=graph,
            loss=held["loss"],
            flow=np.array(own["flow"], np.float64),
            peak=np.array(own["peak"], np.float64),
            traffic=np.array(held["traffic"], np.int64),
            mass=np.array(held["mass"], np.float64),
            dominant=np.array(held["dominant"], bool),
            non_finite=held["non_finite"],
            parameters=tuple(rows),
            components=tuple(sorted(map(_component, record["carries"]), key=lambda c: place[c.component])),
            routes=self._top(record["routes"]),
            consistent=held.get("consistent", True),
        )

    def _path(self, row: list[Any]) -> DominantPath:
        _, key, scalar, index, weight, gradient, *numbers = row
        if key not in self._paths:
            raise StoreIntegrityError(
                f"The store holds no path {key}, which a step refers to. Was it pruned meanwhile?"
            )
        return DominantPath(
            scalar, self._paths[key], tuple(index or ()), tuple(weight or ()), tuple(gradient or ()), *numbers
        )

    def _top(self, rows: list[list[Any]]) -> tuple[RouteShare, ...]:
        """The routes, by parameter and rank, with their shares: a parameter's rows add up to its whole mass."""
        total = {name: math.fsum(r[3] for r in rows if r[0] == name) for name in {r[0] for r in rows}}
        return tuple(
            RouteShare(
                name,
                None if key == OTHER_ROUTE else self._routes[key],
                traffic,
                mass,
                min(1.0, mass / total[name]) if total[name] else 0.0,
                rank,
            )
            for name, key, traffic, mass, rank in sorted(rows, key=lambda r: (r[0], r[4]))
        )

    def _spreads(
        self, tx: ManagedTransaction, keys: list[str]
    ) -> dict[_Which, tuple[str | None, list[Any], list[Any]]]:
        """Rows of parameters and of components by step, batch and mode, with the graph's fingerprint."""
        found: dict[_Which, tuple[str | None, list[Any], list[Any]]] = {}
        for r in tx.run(_SPREADS, keys=keys):
            which = (r["step"], r["batch"], r["mode"])
            found.setdefault(which, (r["graph"], [], []))[1].append([r["target"], *r["numbers"]])
        for r in tx.run(_SPREADS_IN, keys=keys):
            which = (r["step"], r["batch"], r["mode"])
            found.setdefault(which, (None, [], []))[2].append([r["target"], *r["numbers"]])
        return found

    def _sums(
        self,
        tx: ManagedTransaction,
        step: Mapping[str, Any],
        traces: list[BatchTrace],
        spreads: Mapping[_Which, tuple[str | None, list[Any], list[Any]]],
    ) -> tuple[SpreadTrace, ...]:
        # The store keeps one mark for the whole step; where no trace has it, a sum over paths met what is not finite.
        non_finite = step["non_finite"] and not any(t.non_finite for t in traces)
        made = []
        for which, (fingerprint, parameters, components) in spreads.items():
            number, batch, mode = which
            if number != step["step"]:
                continue
            near = next((t for t in traces if t.batch == batch), traces[0])
            graph = near.graph if fingerprint is None else self._graphs.get(tx, fingerprint)
            place = {c.path: at for at, c in enumerate(graph.components)}
            rows = tuple(_parameter_spread(graph, row) for row in sorted(parameters, key=lambda row: row[0]))
            parts = tuple(ComponentSpread(*row) for row in sorted(components, key=lambda row: place[row[0]]))
            made.append(SpreadTrace(mode, batch, graph, near.loss, non_finite, rows, parts))
        if non_finite and not made:
            made.append(SpreadTrace(SPREAD_MODES[0], traces[0].batch, traces[0].graph, traces[0].loss, True, (), ()))
        return tuple(sorted(made, key=lambda s: (_place(BATCHES, s.batch), _place(SPREAD_MODES, s.mode))))


def _parameter_spread(graph: Graph, row: list[Any]) -> ParameterSpread:
    idx, *numbers = row
    v = graph.vertices[idx]
    return ParameterSpread(v.name, idx, v.shape, *numbers)


def _component(row: list[Any]) -> ComponentShare:
    *numbers, times, time_mass, examples, example_mass = row
    begun = (tuple(column or ()) for column in (times, time_mass, examples, example_mass))
    return ComponentShare(*numbers, *begun)


def _place(names: Iterable[str], name: str) -> int:
    """Position of a name in an order that is known, or behind all of it."""
    listed = list(names)
    return listed.index(name) if name in listed else len(listed)
