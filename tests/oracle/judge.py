"""Holds a finished trace against the oracle. Speaks to the trace through its public interface only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from tests.oracle.components import ComponentMap, node_components
from tests.oracle.oracle import Oracle
from tests.oracle.routes import route
from tests.oracle.scalar_graph import ScalarGraph
from tests.oracle.summary import LivePath, Summary, possible_edges, structural_edges, summarise
from tests.oracle.traces import Traces

NOISE = 1e-13
"""Candidates below this part of the graph's largest may be rounding: alive to one summation order, dead to another."""


@dataclass(eq=False)
class Judge:
    """All checks of one trace in one mode. Each check adds to `findings`; none found means that the trace is right.

    Attributes:
        trace: the finished trace.
        oracle: the oracle of the same problem and seed.
        mode: mode to judge.
        components: component of every vertex; by default the oracle's own.
        tolerance: relative error that rounding may explain.
    """

    trace: Any
    oracle: Oracle
    mode: str
    components: ComponentMap | None = None
    tolerance: float = 1e-9
    findings: list[str] = field(default_factory=list)
    paths: list[LivePath] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.graph: ScalarGraph = self.oracle.graph
        self.traces: Traces = self.oracle.traces(self.mode)
        self.batch = self.trace.batch_trace(self.mode)
        self.structure = self.batch.graph
        if self.components is None:
            self.components = self.oracle.components

    def say(self, text: str) -> None:
        """Note one finding."""
        self.findings.append(f"[{self.mode}] {text}")

    def near(self, got: float, want: float, what: str, scale: float = 0.0, slack: float = 1.0) -> None:
        """Numbers must agree up to rounding."""
        if math.isinf(want) or math.isinf(got):
            same = got == want
        else:
            same = abs(got - want) <= slack * self.tolerance * max(abs(want), NOISE) + NOISE * scale
        if not same:
            self.say(f"{what}: got {got!r}, expected {want!r}")

    def run(self) -> list[str]:
        """Everything, in the order in which a finding is easiest to understand."""
        if not self.check_structure():
            return self.findings
        self.check_paths()
        self.check_parameters()
        summary = summarise(self.traces, self.paths, self._components(), [c.path for c in self.structure.components])
        self.check_edges(summary)
        self.check_conservation()
        self.check_components(summary)
        self.check_routes(summary)
        return self.findings

    def _components(self) -> ComponentMap:
        assert self.components is not None
        return self.components

    # -- structure ------------------------------------------------------------------------------------------------

    def check_structure(self) -> bool:
        """Operators in order, their names and shapes; parameters; operator edges. False ends the judgement."""
        ours = [n.name for n in self.graph.operators]
        vertices = [v for v in self.structure.vertices if v.kind in ("operator", "loss")]
        theirs = [v.op for v in vertices]
        if ours != theirs:
            self.say(f"operators: got {theirs}, expected {ours}")
            return False
        self.vertex_of = {n.position: v.idx for n, v in zip(self.graph.operators, vertices, strict=True)}
        for node, vertex in zip(self.graph.operators, vertices, strict=True):
            if tuple(vertex.shape) != node.shapes[0]:
                self.say(f"shape of {vertex.name}: got {vertex.shape}, expected {node.shapes[0]}")
        wholes = node_components(self.graph, self._components())
        for node, vertex in zip(self.graph.operators, vertices, strict=True):
            if vertex.component != wholes[node.position]:
                self.say(f"component of {vertex.name}: got {vertex.component!r}, expected {wholes[node.position]!r}")
        loss = [v for v in vertices if v.kind == "loss"]
        owner = int(self.graph.owner[self.graph.loss])
        if owner in self.vertex_of and [v.idx for v in loss] != [self.vertex_of[owner]]:
            self.say(f"loss vertex: got {loss}")
        by_name = {v.name: v.idx for v in self.structure.vertices if v.kind == "parameter"}
        for name, parameter in self.oracle.parameters.items():
            node = self.graph.recording.leaf_node(parameter)
            if node is None:
                continue
            if name not in by_name:
                self.say(f"parameter {name} is missing among the vertices: {sorted(by_name)}")
                return False
            self.vertex_of[node.position] = by_name[name]
        want = {
            (self.vertex_of[s], self.vertex_of[t], slot)
            for s, t, slot in structural_edges(self.graph)
            if s in self.vertex_of
        }
        kinds = {v.idx: v.kind for v in self.structure.vertices}
        got = [(e.source, e.target, e.slot) for e in self.structure.edges if kinds[e.source] != "constant"]
        if len(set(got)) != len(got):
            self.say("an operator edge is there twice")
        if want - set(got):
            self.say(f"operator edges: missing {self.named(want - set(got))}")
        # Which operand a `where` or an index picks is data; structure may hold on to every operand it could pick.
        could = {
            (self.vertex_of[s], self.vertex_of[t], k) for s, t, k in possible_edges(self.graph) if s in self.vertex_of
        }
        extra = set(got) - want
        busy = {
            (e.source, e.target, e.slot)
            for e in self.structure.edges
            if self.batch.flow[e.idx] or self.batch.traffic[e.idx] or self.batch.mass[e.idx]
        }
        if extra - could or extra & busy:
            self.say(f"operator edges: too many {self.named((extra - could) | (extra & busy))}")
        return True

    def named(self, edges: set[tuple[int, int, int]]) -> list[str]:
        """Edges in words."""
        v = self.structure.vertices
        return sorted(f"{v[s].name}→{v[t].name}[{slot}]" for s, t, slot in edges)

    # -- paths ----------------------------------------------------------------------------------------------------

    def check_paths(self) -> None:
        """Every parameter scalar's path, hop by hop."""
        with np.errstate(all="ignore"):
            largest = self.traces.value.max(initial=-math.inf)
        self.floor = largest + math.log(NOISE) if math.isfinite(largest) else -math.inf
        for name, parameter in self.oracle.parameters.items():
            scalars = self.graph.leaf_scalars(parameter)
            for flat in range(parameter.numel()):
                path = self.trace.path(name, flat, mode=self.mode)
                if scalars is None:
                    if path is not None:
                        self.say(f"{name}[{flat}] is unread but has a path")
                    continue
                self.check_path(name, flat, int(scalars[flat]), path)

    def check_path(self, name: str, flat: int, vertex: int, path: Any) -> None:
        """One path: hops attain the maximum; weights, gradients, components, margin, concentration."""
        what = f"{name}[{flat}]"
        best = float(self.traces.best[vertex])
        if path is None or best == -math.inf:
            if (path is None) != (best == -math.inf):
                if best > -math.inf and best < self.floor:
                    self.doubtful.add(name)
                else:
                    self.say(f"{what}: {'no path, but it is live' if path is None else 'a path, but it is dead'}")
            return
        edges = self.follow(what, vertex, path.hops)
        if edges is None:
            return
        g = self.graph
        gradient = float(g.gradient[vertex])
        self.near(
            path.parameter_gradient, gradient, f"{what} parameter_gradient", scale=float(np.abs(g.gradient).max())
        )
        self.paths.append(LivePath(name, vertex, abs(path.parameter_gradient), edges))
        for hop, edge in zip(path.hops, edges, strict=True):
            want = self._components().of[int(g.target[edge])]
            if hop.component != want:
                self.say(f"{what} hop {hop.op}{hop.index}: component {hop.component!r}, expected {want!r}")
                break
        margins = [self.traces.margin(int(g.source[e])) for e in edges]
        least = min(margins, default=math.inf)
        # a runner-up at the level of rounding is as good as none
        if not (least > 1e8 and path.margin > 1e8):
            self.near(path.margin, least, f"{what} margin", slack=1e3)
        product = float(np.exp(np.sum(np.log(np.abs(g.weight[edges])))))
        if gradient:
            self.near(path.concentration, product / abs(gradient), f"{what} concentration", slack=1e3)
        text = route(self._components().of_path(g, edges))
        if path.route != text:
            self.say(f"{what} route: got {path.route!r}, expected {text!r}")

    def follow(self, what: str, vertex: int, hops: Any) -> list[int] | None:
        """The edges that the hops describe, each attaining the maximum at its vertex; None if there are none."""
        g, traces = self.graph, self.traces
        states: dict[int, list[int]] = {vertex: []}
        for place, hop in enumerate(hops):
            following: dict[int, list[int]] = {}
            seen: list[str] = []
            for at, edges in states.items():
                for e in g.out[at]:
                    u = int(g.target[e])
                    seen.append(
                        f"{g.op(u)}{g.index(u)} w={g.weight[e]:.6g} g={g.gradient[u]:.6g} value={traces.value[e]:.12g}"
                    )
                    if g.op(u) != hop.op or g.index(u) != tuple(hop.index):
                        continue
                    if hop.vertex != self.vertex_of[int(g.owner[u])]:
                        continue
                    if traces.value[e] < traces.best[at] - self.tolerance * 10:
                        continue
                    scale = float(np.abs(g.weight[g.owner[g.target] == g.owner[u]]).max())
                    if abs(hop.weight - g.weight[e]) > self.tolerance * abs(g.weight[e]) + NOISE * scale:
                        continue
                    g_scale = float(np.abs(g.gradient).max())
                    if abs(hop.gradient - g.gradient[u]) > self.tolerance * abs(g.gradient[u]) + NOISE * g_scale:
                        continue
                    following.setdefault(u, [*edges, int(e)])
            if not following:
                self.say(
                    f"{what} hop {place}: {hop.op}{tuple(hop.index)} w={hop.weight!r} g={hop.gradient!r} is no best"
                    f" candidate; there are {sorted(set(seen))[:8]}"
                )
                return None
            states = following
        if g.loss not in states:
            self.say(f"{what}: the path ends before the loss")
            return None
        return states[g.loss]

    # -- totals ---------------------------------------------------------------------------------------------------

    def check_parameters(self) -> None:
        """Counts and the strongest scalar of every parameter."""
        rows = {r.parameter: r for r in self.batch.parameters}
        for name, parameter in self.oracle.parameters.items():
            if name not in rows:
                self.say(f"parameter {name} has no row")
                continue
            row = rows[name]
            mine = [p for p in self.paths if p.parameter == name]
            scalars = self.graph.leaf_scalars(parameter)
            unread = parameter.numel() if scalars is None else int((~self.graph.read[scalars]).sum())
            if scalars is not None and self.graph.loss in scalars:
                continue
            want = (len(mine), parameter.numel() - unread - len(mine), unread)
            if (row.traffic, row.dead, row.unread) != want:
                self.say(f"{name} traffic, dead, unread: got {(row.traffic, row.dead, row.unread)}, expected {want}")
            self.near(row.mass, sum(p.mass for p in mine), f"{name} mass")
            if row.non_finite:
                self.say(f"{name}: non_finite {row.non_finite}")
            self.check_strongest(name, row, mine)

    def check_strongest(self, name: str, row: Any, mine: list[LivePath]) -> None:
        """The strongest trace is that of the largest |gradient|, and says what its path says."""
        best = row.strongest
        if (best is None) != (not mine):
            self.say(f"{name} strongest: got {best}, with {len(mine)} live traces")
            return
        if best is None:
            return
        self.near(best.mass, max(p.mass for p in mine), f"{name} strongest mass")
        path = self.trace.path(name, best.scalar, mode=self.mode)
        vertices = self.structure.vertices
        if [vertices[i].op for i in best.vertices] != [h.op for h in path.hops]:
            self.say(f"{name} strongest: its vertices are not its path's")
        taken = [p for p in mine if p.vertex == int(self.graph.leaf_scalars(self.oracle.parameters[name])[best.scalar])]
        flat = [int(self.graph.flat[self.graph.target[e]]) for e in taken[0].edges] if taken else []
        if list(best.index) != flat:
            self.say(f"{name} strongest index: got {best.index}, expected {flat}")
        for got, want in (
            (best.weight, [h.weight for h in path.hops]),
            (best.gradient, [h.gradient for h in path.hops]),
        ):
            if not np.allclose(got, want, rtol=self.tolerance, atol=0.0):
                self.say(f"{name} strongest numbers: got {got}, path {want}")
        self.near(best.share, best.mass / row.mass if row.mass else 0.0, f"{name} strongest share")
        self.near(best.margin, path.margin, f"{name} strongest margin")
        self.near(best.concentration, path.concentration, f"{name} strongest concentration")

    def check_edges(self, summary: Summary) -> None:
        """Flow, peak, traffic and mass of every operator edge, and the dominant way out of every vertex."""
        index = {(e.source, e.target, e.slot): e.idx for e in self.structure.edges}
        b = self.batch
        for (s, t, slot), total in summary.edges.items():
            if s not in self.vertex_of:
                continue
            key = (self.vertex_of[s], self.vertex_of[t], slot)
            name = self.named({key})[0]
            if key not in index:
                continue  # said already
            i = index[key]
            self.near(float(b.flow[i]), total.flow, f"flow of {name}", scale=1.0)
            self.near(float(b.peak[i]), total.peak, f"peak of {name}", scale=1.0)
            if int(b.traffic[i]) != total.traffic:
                self.say(f"traffic of {name}: got {int(b.traffic[i])}, expected {total.traffic}")
            self.near(float(b.mass[i]), total.mass, f"mass of {name}", scale=1.0)
        ways: dict[int, list[int]] = {}
        for e in self.structure.edges:
            ways.setdefault(e.source, []).append(e.idx)
        for source, mine in ways.items():
            mass = np.asarray(b.mass)[mine]
            dominant = np.asarray(b.dominant)[mine]
            if dominant.sum() != (1 if mass.max() > 0 else 0):
                self.say(f"{int(dominant.sum())} dominant ways out of {self.structure.vertices[source].name}")
            elif mass.max() > 0 and mass[dominant][0] < mass.max():
                self.say(f"the dominant way out of {self.structure.vertices[source].name} has not the most mass")

    def check_conservation(self) -> None:
        """What arrives at an operator leaves it; what left the parameters arrives at the loss."""
        arrives: dict[int, int] = {}
        leaves: dict[int, int] = {}
        for e in self.structure.edges:
            n = int(self.batch.traffic[e.idx])
            leaves[e.source] = leaves.get(e.source, 0) + n
            arrives[e.target] = arrives.get(e.target, 0) + n
        for v in self.structure.vertices:
            if v.kind == "operator" and arrives.get(v.idx, 0) != leaves.get(v.idx, 0):
                self.say(f"{v.name}: {arrives.get(v.idx, 0)} traces arrive, {leaves.get(v.idx, 0)} leave")
        whole = sum(p.traffic for p in self.batch.parameters)
        for v in self.structure.vertices:
            if v.kind == "loss" and arrives.get(v.idx, 0) != whole:
                self.say(f"{arrives.get(v.idx, 0)} of {whole} traces arrive at the loss")

    def check_components(self, summary: Summary) -> None:
        """Every number of every component."""
        known = {c for c in self._components().of if c is not None}
        rows = {r.component: r for r in self.batch.components}
        for missing in sorted(known - set(rows)):
            self.say(f"component {missing} has no row")
        mass = sum(p.mass for p in self.paths)
        live = len(self.paths)
        for name, want in summary.components.items():
            row = rows[name]
            for key in ("traffic", "contested", "won"):
                if getattr(row, key) != getattr(want, key):
                    self.say(f"{key} of {name}: got {getattr(row, key)}, expected {getattr(want, key)}")
            for key in ("mass", "own", "foreign", "flow"):
                self.near(getattr(row, key), getattr(want, key), f"{key} of {name}", scale=1.0)
            self.near(row.share, want.mass / mass if mass else 0.0, f"share of {name}")
            self.near(row.visits, want.entries / live if live else 0.0, f"visits of {name}")
            if not -1e-12 <= row.share <= 1 + 1e-12:
                self.say(f"share of {name} is {row.share}")

    def check_routes(self, summary: Summary) -> None:
        """Routes of all parameters and of each, with the rest as *other*."""
        rows: dict[str, dict[str, Any]] = {}
        for r in self.batch.routes:
            rows.setdefault(r.parameter, {})[r.text] = r
        for scope, want in summary.routes.items():
            got = rows.get(scope, {})
            for text, (traffic, mass) in want.items():
                if text in got:
                    if got[text].traffic != traffic:
                        self.say(f"traffic of route {text!r} of {scope}: got {got[text].traffic}, expected {traffic}")
                    self.near(got[text].mass, mass, f"mass of route {text!r} of {scope}", scale=1.0)
                elif "other" not in got:
                    self.say(f"route {text!r} of {scope} is missing: {sorted(got)}")
            extra = set(got) - set(want) - {"other"}
            if extra:
                self.say(f"routes of {scope} that no trace takes: {sorted(extra)}")
            if sum(r.traffic for r in got.values()) != sum(t for t, _ in want.values()):
                self.say(f"routes of {scope} do not add up to all traces")
            ordered = [r for r in sorted(got.values(), key=lambda r: r.rank) if r.route is not None]
            if any(a.mass < b.mass * (1 - 1e-12) for a, b in pairwise(ordered)):
                self.say(f"routes of {scope} are not ranked by mass")
