"""Where the component graph is drawn, and which ways a route leads over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradtrace.service.report.graph import MOST, component_graph
from gradtrace.service.report.ways import ways_of


def _row(source: str | None, target: str | None, share: float = 0.5, step: int = 0) -> dict[str, object]:
    return {"step": step, "source": source, "target": target, "share": share}


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40))
def test_nothing_lies_on_anything_and_ways_lead_ahead(pairs: set[tuple[int, int]]) -> None:
    order: dict[str | None, int] = {f"c{n:02}": n for n in range(13)}
    graph = component_graph([0], [_row(f"c{a:02}", f"c{b:02}") for a, b in pairs if a != b], order)
    assert graph.nodes == tuple(f"c{n:02}" for n in range(13)) and graph.folded is None
    assert len(set(graph.places)) == 13
    assert all(0 <= layer < graph.size[0] and 0 <= row < graph.size[1] for layer, row in graph.places)
    assert set(graph.ways) == {(a, b) for a, b in pairs if a != b}
    bends: set[tuple[float, float]] = set()
    for (a, b), line in zip(graph.ways, graph.lines, strict=True):
        assert (line[0], line[-1]) == (graph.places[a], graph.places[b])
        if a < b:  # ahead: one place a layer, and none of them is another's
            layers = [layer for layer, _ in line]
            assert layers == [layers[0] + i for i in range(len(layers))] and len(layers) > 1
            assert not bends & set(line[1:-1]) and not set(graph.places) & set(line[1:-1])
            bends |= set(line[1:-1])


def test_a_loop_is_drawn_back() -> None:
    rows = [_row("gate", "cell"), _row("cell", "hidden"), _row("hidden", "gate"), _row("hidden", None)]
    graph = component_graph([0], rows, {"gate": 0, "cell": 1, "hidden": 2, None: 3})
    assert graph.nodes == ("gate", "cell", "hidden", "loss")
    assert [layer for layer, _ in graph.places] == [0, 1, 2, 3]
    assert graph.lines[graph.ways.index((2, 0))] == (graph.places[2], graph.places[0])


def test_too_many_components_are_put_together_by_name() -> None:
    names = [f"layers.{n}.{part}" for n in range(30) for part in ("carry", "body", "gate")]
    rows = [_row(a, b, 0.25) for a, b in pairwise(names)] + [_row("layers.0.carry", "layers.1.body", 0.5)]
    graph = component_graph([0], rows, {name: n for n, name in enumerate(names)})
    assert graph.folded == 2 and len(graph.nodes) == 30 <= MOST
    assert graph.nodes == tuple(f"layers.{n}" for n in range(30))
    shares = dict(zip(graph.ways, graph.shares[0], strict=True))
    assert shares[0, 1] == pytest.approx(0.75) and shares[1, 2] == pytest.approx(0.25)
    assert all(a != b for a, b in graph.ways)


def test_a_step_without_a_way_has_none_of_its_mass() -> None:
    graph = component_graph([0, 10], [_row("a", "b", 0.5, 0)], {"a": 0, "b": 1})
    assert graph.shares == ((0.5,), (0.0,))


@pytest.mark.parametrize(
    ("tokens", "ways"),
    [
        ([], []),
        (["head"], []),
        (["head+"], []),
        (["embed", "rnn+", "head"], ["embed rnn", "rnn head"]),
        (["(", "a", "b", ")+", "c"], ["a b", "b a", "b c"]),
        (["x", "(", "(", "a", "b", ")+", "c", ")+", "y"], ["x a", "a b", "b a", "b c", "c a", "c y"]),
    ],
)
def test_ways_of_a_route(tokens: list[str], ways: list[str]) -> None:
    assert [" ".join(pair) for pair in ways_of(tokens)] == ways
