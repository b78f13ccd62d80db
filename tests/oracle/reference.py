"""A trace made by the oracle alone, with the public interface of a real one: slow, whole, and independent.

It lets the judge be judged (a true trace must pass, a spoilt one must not) and is a second opinion where a real trace
and the oracle disagree.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace as Record
from typing import Any

import numpy as np
import torch

from tests.oracle.components import ROOT, inside, node_components
from tests.oracle.oracle import Oracle
from tests.oracle.routes import route
from tests.oracle.summary import LivePath, Summary, structural_edges, summarise
from tests.oracle.traces import Traces


@dataclass(eq=False)
class ReferenceTrace:
    """Everything that the judge asks of a trace, computed by the oracle."""

    oracle: Oracle

    def path(self, name: str, flat: int, mode: str) -> Any:
        """One path, as a record with the public attributes; None for dead and unread scalars."""
        scalars = self.oracle.graph.leaf_scalars(self.oracle.parameters[name])
        if scalars is None:
            return None
        traces = self._traces(mode)
        edges = traces.path(int(scalars[flat]))
        if not edges and scalars[flat] != self.oracle.graph.loss:
            return None
        g = self.oracle.graph
        gradient = float(g.gradient[scalars[flat]])
        vertex_of = self._structure([])[1]
        hops = [
            Record(
                vertex=vertex_of[int(g.owner[u])],
                op=g.op(u),
                index=g.index(u),
                component=self.oracle.components.of[u],
                weight=float(g.weight[e]),
                gradient=float(g.gradient[u]),
            )
            for e, u in ((e, int(g.target[e])) for e in edges)
        ]
        product = math.prod(abs(h.weight) for h in hops)
        return Record(
            hops=hops,
            margin=min((traces.margin(int(g.source[e])) for e in edges), default=math.inf),
            concentration=product / abs(gradient) if gradient else math.inf,
            parameter_gradient=gradient,
            route=route([h.component for h in hops]),
        )

    def _traces(self, mode: str) -> Traces:
        kept = self.__dict__.setdefault("_kept", {})
        return kept.setdefault(mode, self.oracle.traces(mode))

    def batch_trace(self, mode: str) -> Any:
        """The totals of one mode."""
        kept = self.__dict__.setdefault("_batches", {})
        if mode not in kept:
            kept[mode] = self._batch(mode)
        return kept[mode]

    def _batch(self, mode: str) -> Any:
        oracle, g, traces = self.oracle, self.oracle.graph, self._traces(mode)
        paths = []
        for name, parameter in oracle.parameters.items():
            scalars = g.leaf_scalars(parameter)
            for v in scalars if scalars is not None else ():
                edges = traces.path(int(v))
                if edges:
                    paths.append(LivePath(name, int(v), abs(float(g.gradient[v])), edges))
        names = sorted({a for c in oracle.components.of if c is not None for a in _line(c)})
        summary = summarise(traces, paths, oracle.components, names)
        graph, vertex_of = self._structure(names)
        keys = [(e.source, e.target, e.slot) for e in graph.edges]
        totals = {
            (vertex_of[s], vertex_of[t], slot): total for (s, t, slot), total in summary.edges.items() if s in vertex_of
        }
        column = {
            q: np.array([getattr(totals[k], q) if k in totals else 0 for k in keys])
            for q in ("flow", "peak", "traffic", "mass")
        }
        return Record(
            mode=mode,
            graph=graph,
            dominant=_dominant(graph.edges, column["mass"]),
            parameters=[
                self._parameter(mode, n, p, [x for x in paths if x.parameter == n], vertex_of)
                for n, p in oracle.parameters.items()
            ],
            components=_component_rows(summary, paths),
            routes=_route_rows(summary),
            **column,
        )

    def _structure(self, names: list[str]) -> tuple[Any, dict[int, int]]:
        g = self.oracle.graph
        vertex_of: dict[int, int] = {}
        vertices: list[Any] = []
        for name, parameter in self.oracle.parameters.items():
            node = g.recording.leaf_node(parameter)
            if node is not None:
                vertex_of[node.position] = len(vertices)
                vertices.append(Record(idx=len(vertices), kind="parameter", op="", name=name, shape=node.shapes[0]))
        wholes = node_components(g, self.oracle.components)
        for node in g.operators:
            vertex_of[node.position] = len(vertices)
            kind = "loss" if node.position == g.owner[g.loss] else "operator"
            whole = wholes[node.position]
            vertices.append(
                Record(
                    idx=len(vertices), kind=kind, op=node.name, name=node.name, shape=node.shapes[0], component=whole
                )
            )
        keys = sorted((vertex_of[s], vertex_of[t], slot) for s, t, slot in structural_edges(g) if s in vertex_of)
        edges = [Record(idx=i, source=s, target=t, slot=slot) for i, (s, t, slot) in enumerate(keys)]
        return Record(vertices=vertices, edges=edges, components=[Record(path=n) for n in names]), vertex_of

    def _parameter(
        self, mode: str, name: str, parameter: torch.Tensor, mine: list[LivePath], vertex_of: dict[int, int]
    ) -> Any:
        g = self.oracle.graph
        scalars = g.leaf_scalars(parameter)
        unread = parameter.numel() if scalars is None else int((~g.read[scalars]).sum())
        mass = sum(p.mass for p in mine)
        strongest = None
        if mine:
            best = max(mine, key=lambda p: p.mass)
            flat = int(best.vertex - scalars[0])
            path = self.path(name, flat, mode)
            targets = g.target[best.edges]
            strongest = Record(
                scalar=flat,
                vertices=tuple(vertex_of[int(o)] for o in g.owner[targets]),
                index=tuple(int(i) for i in g.flat[targets]),
                weight=tuple(h.weight for h in path.hops),
                gradient=tuple(h.gradient for h in path.hops),
                mass=best.mass,
                share=best.mass / mass if mass else 0.0,
                margin=path.margin,
                concentration=path.concentration,
            )
        return Record(
            parameter=name,
            traffic=len(mine),
            mass=mass,
            dead=parameter.numel() - unread - len(mine),
            unread=unread,
            non_finite=0,
            strongest=strongest,
        )


def _line(component: str) -> list[str]:
    """A component and all that contain it."""
    if component == ROOT:
        return [ROOT]
    parts = component.split(".")
    found = [".".join(parts[:n]) for n in range(len(parts), 0, -1)] + [ROOT]
    assert all(inside(a, b) for a, b in pairwise(found))
    return found


def _dominant(edges: list[Any], mass: np.ndarray) -> np.ndarray:
    out = np.zeros(len(edges), dtype=bool)
    ways = defaultdict(list)
    for e in edges:
        ways[e.source].append(e.idx)
    for mine in ways.values():
        if mass[mine].max() > 0:
            out[mine[int(np.argmax(mass[mine]))]] = True
    return out


def _component_rows(summary: Summary, paths: list[LivePath]) -> list[Any]:
    mass = sum(p.mass for p in paths)
    return [
        Record(
            component=name,
            share=c.mass / mass if mass else 0.0,
            visits=c.entries / len(paths) if paths else 0.0,
            **{q: getattr(c, q) for q in ("mass", "traffic", "own", "foreign", "contested", "won", "flow")},
        )
        for name, c in summary.components.items()
    ]


def _route_rows(summary: Summary) -> list[Any]:
    rows = []
    for scope, routes in summary.routes.items():
        ranked = sorted(routes.items(), key=lambda item: -item[1][1])
        for rank, (text, (traffic, mass)) in enumerate(ranked, 1):
            rows.append(Record(parameter=scope, route=text, text=text, traffic=traffic, mass=mass, rank=rank))
    return rows
