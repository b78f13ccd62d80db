"""Sums over all paths on the scalar graph: absolute weights, entropies, and what of them crosses a component.

Values are logarithms, so that nothing underflows. Written edge by edge; `by_brute_force` lists the paths themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tests.oracle.components import ComponentMap, inside
from tests.oracle.oracle import Oracle
from tests.oracle.scalar_graph import ScalarGraph
from tests.oracle.traces import all_paths

NOTHING = -math.inf


def log_sum(values: list[float]) -> float:
    """log Σ exp(value)."""
    top = max(values, default=NOTHING)
    return top if top == NOTHING else top + math.log(math.fsum(math.exp(v - top) for v in values))


@dataclass(eq=False)
class PathWeights:
    """Of every vertex, log Σ |Π w| over its paths to the loss, and the entropy of the paths in proportion to |Π w|."""

    graph: ScalarGraph

    @cached_property
    def logs(self) -> np.ndarray:
        """log |w| of every edge."""
        with np.errstate(divide="ignore"):
            return np.where(np.isfinite(self.graph.weight), np.log(np.abs(self.graph.weight)), NOTHING)

    @cached_property
    def _solved(self) -> tuple[np.ndarray, np.ndarray]:
        g = self.graph
        total, entropy = np.full(g.size, NOTHING), np.zeros(g.size)
        total[g.loss] = 0.0
        for v in g.vertices[::-1]:  # users have greater numbers than what they read
            if v == g.loss:
                continue
            ways = [(self.logs[e] + total[g.target[e]], entropy[g.target[e]]) for e in g.out[v]]
            ways = [w for w in ways if w[0] > NOTHING]
            total[v] = log_sum([w[0] for w in ways])
            entropy[v] = math.fsum(math.exp(w - total[v]) * (h - (w - total[v])) for w, h in ways)
        return total, entropy

    @property
    def total(self) -> np.ndarray:
        """log of the summed weights of all paths, per vertex."""
        return self._solved[0]

    @property
    def entropy(self) -> np.ndarray:
        """Entropy in nats, per vertex (0 where there is no path)."""
        return self._solved[1]

    def crossing(self, member: np.ndarray) -> np.ndarray:
        """Per vertex, log of the summed weights of those paths that come to a member after their start."""
        g = self.graph
        found = np.full(g.size, NOTHING)
        for v in g.vertices[::-1]:
            if v != g.loss:
                ways = [
                    self.logs[e] + (self.total[g.target[e]] if member[g.target[e]] else found[g.target[e]])
                    for e in g.out[v]
                ]
                found[v] = log_sum(ways)
        return found


def by_brute_force(graph: ScalarGraph, vertex: int) -> tuple[float, float]:
    """(Σ |Π w|, entropy) of a vertex from the list of all its paths."""
    products = [math.prod(abs(graph.weight[e]) for e in path) for path in all_paths(graph, vertex)]
    whole = math.fsum(products)
    shares = [p / whole for p in products if p]
    return whole, -math.fsum(q * math.log(q) for q in shares)


@dataclass(eq=False)
class SpreadJudge:
    """Holds the modes entropy and abs-sum of a trace against the oracle, by its public interface."""

    trace: Any
    oracle: Oracle
    components: ComponentMap
    tolerance: float = 1e-9
    findings: list[str] = field(default_factory=list)

    def near(self, got: float | None, want: float | None, what: str, scale: float = 0.0) -> None:
        """Numbers agree up to rounding; None and NaN mean "no path"."""
        none = want is None or math.isnan(want)
        if none or got is None or math.isnan(got):
            if not (none and (got is None or math.isnan(got))):
                self.findings.append(f"{what}: got {got!r}, expected {want!r}")
        elif not abs(got - want) <= self.tolerance * max(abs(want), scale):
            self.findings.append(f"{what}: got {got!r}, expected {want!r}")

    def run(self) -> list[str]:
        """Every scalar of every parameter, then the rows."""
        g, weights = self.oracle.graph, PathWeights(self.oracle.graph)
        largest = math.exp(min(700.0, float(weights.total.max(initial=0.0))))
        noise = 1e-13 * largest  # what rounding alone may leave of a weight that is 0
        rows = {r.parameter: r for r in self.trace.parameters("entropy")}
        starts: dict[str, np.ndarray] = {}
        for name, parameter in self.oracle.parameters.items():
            vertices = g.leaf_scalars(parameter)
            spread = self.trace.spread(name, "entropy")
            if vertices is None:
                if np.any(spread.abs_sum) or not np.isnan(spread.entropy).all():
                    self.findings.append(f"{name} is unread but has paths")
                continue
            starts[name] = vertices
            for at, v in enumerate(vertices.tolist()):
                total = math.exp(weights.total[v])
                if 0 < total < noise:
                    continue
                place = np.unravel_index(at, parameter.shape) if parameter.dim() else ()
                gradient = float(g.gradient[v])
                self.near(float(spread.gradient[place]), gradient, f"{name}[{at}] gradient", largest)
                self.near(float(spread.abs_sum[place]), total, f"{name}[{at}] abs-sum")
                live = total > 0
                self.near(
                    float(spread.entropy[place]), weights.entropy[v] if live else None, f"{name}[{at}] entropy", 1.0
                )
                share = abs(gradient) / total if live else None
                self.near(float(spread.coherence[place]), share, f"{name}[{at}] coherence", 1.0)
            self._check_group(rows[name], weights, vertices, f"parameter {name}")
            self.near(rows[name].abs_sum, self._sum(weights.total[vertices]), f"{name} abs-sum")
            self.near(rows[name].mass, float(np.abs(g.gradient[vertices]).sum()), f"{name} mass", largest)
        self._check_components(weights, starts)
        return self.findings

    def _sum(self, logs: np.ndarray) -> float:
        return math.exp(log_sum([float(t) for t in logs]))

    def _check_group(self, row: Any, weights: PathWeights, vertices: np.ndarray, what: str) -> None:
        """Coherence and entropy of the paths of several vertices together."""
        whole = log_sum([float(t) for t in weights.total[vertices]])
        if whole == NOTHING:
            self.near(row.entropy, None, f"{what} entropy")
            self.near(row.coherence, None, f"{what} coherence")
            return
        shares = np.exp(weights.total[vertices] - whole)
        there = shares > 0
        entropy = float(np.sum(shares[there] * (weights.entropy[vertices][there] - np.log(shares[there]))))
        self.near(row.entropy, entropy, f"{what} entropy", 1.0)
        mass = float(np.abs(self.oracle.graph.gradient[vertices]).sum())
        self.near(row.coherence, mass / math.exp(whole), f"{what} coherence", 1.0)

    def _check_components(self, weights: PathWeights, starts: dict[str, np.ndarray]) -> None:
        g = self.oracle.graph
        every = np.concatenate(list(starts.values())) if starts else np.zeros(0, dtype=int)
        whole = self._sum(weights.total[every])
        plain = {r.component: r for r in self.trace.components("abs-sum")}
        for row in self.trace.components("entropy"):
            name = row.component
            member = np.array([inside(c, name) for c in self.components.of])
            crossing = weights.crossing(member & g.crossing)
            owned = every[member[every]]
            total, own = self._sum(crossing[every]), self._sum(crossing[owned])
            self.near(row.abs_sum, total, f"abs-sum of {name}", whole)
            self.near(row.share, total / whole if whole else 0.0, f"share of {name}", 1.0)
            self.near(row.own, own, f"own of {name}", whole)
            self.near(row.foreign, total - own, f"foreign of {name}", whole)
            self._check_group(row, weights, owned, f"component {name}")
            other = plain[name]
            if other.entropy is not None or (other.abs_sum, other.coherence) != (row.abs_sum, row.coherence):
                self.findings.append(f"component {name}: abs-sum says {other}, entropy {row}")
