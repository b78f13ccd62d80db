"""Folded graphs: sums stay whole, a long sequence takes the place of a short one, and paths keep their routes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradtrace.service.store.routes import route_of
from gradtrace.tracer import Tracer, component, trace
from gradtrace.tracer.dominance import dominant_ways
from gradtrace.tracer.errors import TraceError
from gradtrace.tracer.fold import Folder, fold
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.routes import collapse, first_and_last
from gradtrace.tracer.sinks import MemorySink
from gradtrace.tracer.steptrace import BatchTrace, StepTrace


class Reader(nn.Module):
    """An LSTM under a head that reads the last step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(2, 3, num_layers=2)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][-1])


def traced(steps: int, examples: int = 2) -> StepTrace:
    """One step of the reader on a sequence of this length."""
    model, sink = Reader(), MemorySink()
    x = torch.randn(steps, examples, 2, generator=torch.Generator().manual_seed(steps))
    with Tracer(model, sink=sink, run="r", mode=("greedy", "maxprod", "entropy")).step() as step:
        step.backward(model(x).square().sum())
    return sink.steps["r", 0]


def always(step: StepTrace) -> list[tuple[BatchTrace, BatchTrace]]:
    """Exact traces and folded ones."""
    return list(zip(step.traces, Folder("always").step(step).traces, strict=True))


def by_kind(graph: Graph, values: np.ndarray, how: str) -> dict[tuple[object, ...], float]:
    """Values added up (or the greatest) over edges whose ends have the same component and operator, slot by slot."""
    found: dict[tuple[object, ...], list[float]] = defaultdict(list)
    v = graph.vertices
    for e in graph.edges:
        ends = [
            (v[i].component, v[i].op, v[i].kind if v[i].kind != "parameter" else v[i].name)
            for i in (e.source, e.target)
        ]
        found[*ends, e.slot].append(float(values[e.idx]))
    return {key: sum(x) if how == "sum" else max(x) for key, x in found.items()}


def test_totals_stay_whole() -> None:
    for exact, folded in always(traced(7)):
        assert folded.graph.folded and len(folded.graph.edges) < len(exact.graph.edges) / 3
        for name, how in (("flow", "sum"), ("mass", "sum"), ("traffic", "sum"), ("peak", "max")):
            a = by_kind(exact.graph, getattr(exact, name), how)
            b = by_kind(folded.graph, getattr(folded, name), how)
            assert a.keys() == b.keys()
            np.testing.assert_allclose([b[key] for key in a], list(a.values()), rtol=1e-12)
        assert folded.traffic.dtype == np.int64
        assert (exact.components, exact.routes, exact.loss) == (folded.components, folded.routes, folded.loss)
        names = [[(t.graph.vertices[p.vertex].name, p.traffic, p.mass) for p in t.parameters] for t in (exact, folded)]
        assert names[0] == names[1]


def test_sums_over_all_paths_stay_whole() -> None:
    step = traced(4)
    (exact,), (folded,) = step.spreads, Folder("always").step(step).spreads
    assert folded.graph.folded and (exact.components, exact.mode) == (folded.components, folded.mode)
    names = [[(t.graph.vertices[p.vertex].name, p.abs_sum, p.entropy) for p in t.parameters] for t in (exact, folded)]
    assert names[0] == names[1]


def test_any_length_and_batch_folds_to_the_same_graph() -> None:
    graphs = [always(traced(*size))[0][1].graph for size in ((2, 2), (7, 2), (12, 5))]
    assert len({g.fingerprint for g in graphs}) == 1
    exact = traced(7).traces[0].graph
    assert graphs[0].fingerprint != exact.fingerprint and graphs[0].architecture_hash == exact.architecture_hash
    names = [v.name for v in graphs[1].vertices]
    assert len(set(names)) == len(names) and all(v.time is None for v in graphs[1].vertices)
    assert [v.kind for v in graphs[1].vertices].count("loss") == 1


def test_paths_keep_their_routes_and_their_ends() -> None:
    for exact, folded in always(traced(9)):
        for p, q in zip(exact.parameters, folded.parameters, strict=True):
            assert p.strongest is not None and q.strongest is not None
            assert route_of(folded.graph, q.strongest.vertices) == route_of(exact.graph, p.strongest.vertices)
            assert len(q.strongest.vertices) <= len(p.strongest.vertices)
            steps = set(zip(q.strongest.vertices, q.strongest.vertices[1:], strict=False))
            assert steps <= {(e.source, e.target) for e in folded.graph.edges}
            hops = list(zip(p.strongest.index, p.strongest.weight, p.strongest.gradient, strict=True))
            kept = list(zip(q.strongest.index, q.strongest.weight, q.strongest.gradient, strict=True))
            assert (kept[0], kept[-1]) == (hops[0], hops[-1]) and set(kept) <= set(hops)
            assert len(kept) == len(q.strongest.vertices)
            same = ("scalar", "mass", "margin", "concentration", "example", "time")
            assert [getattr(p.strongest, n) for n in same] == [getattr(q.strongest, n) for n in same]
    lengths = {
        n: sum(len(q.strongest.vertices) for q in always(traced(n))[0][1].parameters if q.strongest) for n in (9, 30)
    }
    assert lengths[30] <= 1.5 * lengths[9]


def test_dominant_edges_lead_to_the_loss() -> None:
    for _, folded in always(traced(8)):
        onward = {}
        for e in folded.graph.edges:
            if folded.dominant[e.idx]:
                assert e.source not in onward and folded.mass[e.idx] > 0
                onward[e.source] = e.target
        for p in folded.parameters:
            at, seen = p.vertex, set()
            while at != folded.graph.loss.idx:
                assert at not in seen
                seen.add(at)
                at = onward[at]


@pytest.mark.parametrize(
    ("edges", "dominant"),
    [
        ([(0, 1, 3.0), (0, 2, 4.0), (1, 3, 1.0), (2, 3, 1.0)], [1, 2, 3]),
        ([(0, 1, 2.0), (0, 2, 2.0), (1, 2, 0.0)], [0]),  # a tie goes to the first, and no mass is no way
        ([(0, 1, 10.0), (1, 0, 10.0), (0, 2, 1.0)], [1, 2]),  # a circle is left by its heaviest way out
        ([(0, 0, 9.0), (0, 1, 1.0)], [1]),
        ([(0, 1, 9.0), (1, 0, 9.0), (1, 2, 3.0), (2, 3, 8.0), (3, 2, 8.0), (3, 0, 2.0), (2, 4, 1.0)], [0, 2, 4, 6]),
    ],
)  # fmt: skip
def test_dominant_ways(edges: list[tuple[int, int, float]], dominant: list[int]) -> None:
    sources, targets, mass = zip(*edges, strict=True)
    found = dominant_ways(sources, targets, np.array(mass))
    assert np.flatnonzero(found).tolist() == dominant


@given(st.integers(2, 7), st.data())
def test_dominant_ways_are_a_tree_wherever_one_can_be(vertices: int, data: st.DataObject) -> None:
    """Every vertex reaches the last one, which all can reach, over one edge each."""
    pairs = st.tuples(st.integers(0, vertices - 2), st.integers(0, vertices - 1))
    listed = data.draw(st.lists(pairs, min_size=1, max_size=12)) + [(v, v + 1) for v in range(vertices - 1)]
    mass = np.array([data.draw(st.integers(1, 50)) for _ in listed], float)
    found = np.flatnonzero(dominant_ways([a for a, _ in listed], [b for _, b in listed], mass))
    onward = {listed[e][0]: listed[e][1] for e in found}
    assert len(onward) == len(found) == vertices - 1
    for at in range(vertices):
        for _ in range(vertices):
            at = onward.get(at, at)
        assert at == vertices - 1
    for v in range(vertices - 1):
        heaviest = max((e for e, (a, _) in enumerate(listed) if a == v), key=lambda e: (mass[e], -e))
        if listed[heaviest][1] == vertices - 1:  # no circle leads through it
            assert heaviest in found


@given(st.lists(st.sampled_from("abcd"), max_size=24), st.sampled_from(["abcd", "aabc", "abab", "aabb"]))
def test_what_is_kept_of_a_path_takes_its_route(names: list[str], components: str) -> None:
    kept = [names[at] for at in first_and_last(names)]
    assert collapse(kept) == collapse(names)
    of = dict(zip("abcd", components, strict=True))

    def route(path: list[str]) -> tuple[str, ...]:
        line = [of[v] for v in path]
        return collapse([c for at, c in enumerate(line) if at == 0 or line[at - 1] != c])

    assert route(kept) == route(names)


def test_a_folder_folds_what_is_due() -> None:
    step = traced(6)
    edges = len(step.traces[0].graph.edges)
    assert Folder().step(step) is step and Folder("never", 0).step(step) is step
    assert Folder("auto", edges).step(step) is step
    folded = Folder("auto", edges - 1).step(step)
    assert all(t.graph.folded for t in folded.traces)
    assert Folder("always").step(folded) is folded
    assert folded.traces[0].graph is folded.traces[1].graph
    for wrong in (("sometimes", 3), ("auto", -1)):
        with pytest.raises(TraceError):
            Folder(*wrong)  # type: ignore[arg-type]  # what is refused


def test_where_nothing_repeats_nothing_folds() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    found = trace(lambda: model(torch.ones(3, 2)).sum(), model).batch_trace()
    assert fold(found.graph) is None
    step = StepTrace("r", 0, 0, found.loss, (found,))
    assert Folder("always").step(step) is step


def test_regions_and_cells_in_a_loop_fold() -> None:
    cell, head = nn.GRUCell(2, 3), nn.Linear(3, 1)
    model = nn.ModuleDict({"cell": cell, "head": head})

    def loss(steps: int) -> Tensor:
        h = torch.zeros(2, 3)
        for _ in range(steps):
            h = cell(torch.ones(2, 2), h)
            with component("decay"):
                h = h * 0.5
        return head(h).sum()

    graphs = [trace(lambda n=n: loss(n), model).graph for n in (3, 6)]
    folded = [f.graph for f in map(fold, graphs) if f is not None]
    assert len(folded) == 2 and folded[0].fingerprint == folded[1].fingerprint
    assert [v.name for v in folded[0].vertices if v.component == "decay"] == ["decay/Mul"]


def test_paths_without_arrays_fold() -> None:
    step = traced(5)
    (t, *_) = step.traces
    bare = [
        replace(p, strongest=None if p.strongest is None else replace(p.strongest, index=(), weight=(), gradient=()))
        for p in t.parameters
    ]
    folded = Folder("always").step(replace(step, traces=(replace(t, parameters=tuple(bare)),)))
    assert all(tuple(p.strongest.index) == () for p in folded.traces[0].parameters if p.strongest)
