"""The worked example of docs/semantics.md, recomputed from its own numbers and traced from its own code."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.routes import route

TEXT = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text(encoding="utf-8")
NEAR = 5e-6
COMPONENT = {"p": "long", "r": "long", "s": "long", "q": "short", "h": None, "ℓ": None}


@cache
def table(*columns: str) -> list[dict[str, str]]:
    """The table of the document whose first columns are these."""
    rows = [
        [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in TEXT.splitlines()
        if line.startswith("|")
    ]
    start = next(i for i, r in enumerate(rows) if tuple(r[: len(columns)]) == columns)
    found = []
    for row in rows[start + 2 :]:
        if len(row) != len(rows[start]) or set(row[0]) == {"-"}:
            break
        found.append(dict(zip(rows[start], row, strict=True)))
    # the next table may have as many columns: its header repeats no value of ours
    ends = [i for i, r in enumerate(found) if r[columns[0]] in ("mode", "from", "vertex", "of")]
    return found[: ends[0]] if ends else found


def edges() -> list[tuple[str, str, float]]:
    return [(r["from"], r["to"], float(r["weight"])) for r in table("from", "to")]


def gradients() -> dict[str, float]:
    """g by the chain rule, from the document's weights."""
    g = {"ℓ": 1.0}
    for v in ("q", "s", "r", "p", "h", "c", "w"):
        g[v] = sum(w * g[b] for a, b, w in edges() if a == v)
    return g


def products() -> dict[str, float]:
    """t by the max-product rule."""
    t = {"ℓ": 1.0}
    for v in ("q", "s", "r", "p", "h", "c", "w"):
        t[v] = max(abs(w) * t[b] for a, b, w in edges() if a == v)
    return t


def candidates(mode: str, v: str) -> list[tuple[float, str, float]]:
    """(candidate, consumer, weight), the greatest first."""
    known = {u: abs(x) for u, x in (gradients() if mode == "greedy" else products()).items()}
    return sorted(((abs(w) * known[b], b, w) for a, b, w in edges() if a == v), reverse=True)


def walk(mode: str, v: str) -> tuple[list[str], float, float]:
    """Path, margin and product of weights of one trace."""
    path, margin, product = [], math.inf, 1.0
    while v != "ℓ":
        best, *others = candidates(mode, v)
        if others:
            margin = min(margin, best[0] / others[0][0])
        v = best[1]
        product *= best[2]
        path.append(v)
    return path, margin, product


def test_values_and_gradients() -> None:
    rows = {r["vertex"]: r for r in table("vertex", "made by")}
    value = {v: float(r["value"]) for v, r in rows.items()}
    assert value["h"] == pytest.approx(value["w"] * 4)
    assert value["p"] == pytest.approx(2 * value["h"])
    assert value["r"] == pytest.approx(value["p"] * value["c"])
    assert value["s"] == pytest.approx(value["p"] + value["r"])
    assert value["q"] == pytest.approx(3 * value["h"])
    assert value["ℓ"] == pytest.approx(value["s"] + value["q"])
    weights = {(a, b): w for a, b, w in edges()}
    assert weights["c", "r"] == value["p"]
    assert weights["p", "r"] == value["c"]
    assert len(rows) == 8
    for v, g in gradients().items():
        assert float(rows[v]["gradient"]) == pytest.approx(g, abs=NEAR)


def test_candidates() -> None:
    g, t = gradients(), products()
    rows = table("from", "to")
    assert len(rows) == 9
    for row in rows:
        w = abs(float(row["weight"]))
        assert float(row["greedy: |w·g_u|"]) == pytest.approx(w * abs(g[row["to"]]), abs=NEAR)
        assert float(row["maxprod: |w|·t_u"]) == pytest.approx(w * t[row["to"]], abs=NEAR)


def test_paths() -> None:
    rows = table("mode", "start")
    assert len(rows) == 4
    for row in rows:
        path, margin, product = walk(row["mode"], row["start"])
        assert row["path"].split() == path
        assert float(row["margin"]) == pytest.approx(margin, abs=NEAR)
        assert float(row["concentration"]) == pytest.approx(product / gradients()[row["start"]], abs=NEAR)
        assert row["route"] == route([COMPONENT[v] for v in path])


def test_components() -> None:
    g = gradients()
    whole = g["w"] + g["c"]
    rows = table("mode", "component")
    assert len(rows) == 4
    for row in rows:
        mode, name = row["mode"], row["component"]
        crossing = {v: [COMPONENT[u] for u in walk(mode, v)[0]] for v in ("w", "c")}
        mass = sum(g[v] for v, c in crossing.items() if name in c)
        contested = won = 0
        for v in ("w", "c"):
            for at in [v, *walk(mode, v)[0][:-1]]:
                sides = [COMPONENT[u] == name for _, u, _ in candidates(mode, at)]
                contested += any(sides) and not all(sides)
                won += any(sides) and not all(sides) and sides[0]
        flow = sum(abs(w * g[b]) for a, b, w in edges() if COMPONENT[b] == name and COMPONENT.get(a) != name)
        want = {
            "traffic": sum(name in c for c in crossing.values()),
            "mass": mass,
            "share": mass / whole,
            "visits": sum(name in c for c in crossing.values()) / 2,
            "contested": contested,
            "won": won,
            "flow": flow,
        }
        for column, number in want.items():
            assert float(row[column]) == pytest.approx(number, abs=NEAR), (mode, name, column)


@cache
def traced() -> Any:
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert code
    scope: dict[str, Any] = {}
    exec(compile(code[1], "semantics.md", "exec"), scope)
    return scope["t"]


def test_the_tracer_finds_the_paths() -> None:
    g = gradients()
    op = {"h": "Mul", "p": "Mul", "r": "Mul", "q": "Mul", "s": "Add", "ℓ": "Add"}
    weights = {(a, b): w for a, b, w in edges()}
    for row in table("mode", "start"):
        path = traced().path(row["start"], (), mode=row["mode"])
        names = row["path"].split()
        assert [h.op for h in path.hops] == [op[v] for v in names]
        steps = zip([row["start"], *names], names, strict=False)
        assert [h.weight for h in path.hops] == pytest.approx([weights[s] for s in steps])
        assert [h.gradient for h in path.hops] == pytest.approx([g[v] for v in names])
        assert [h.component for h in path.hops] == [COMPONENT[v] for v in names]
        assert path.margin == pytest.approx(float(row["margin"]), abs=NEAR)
        assert path.concentration == pytest.approx(float(row["concentration"]), abs=NEAR)
        assert path.route == row["route"]


def test_the_tracer_finds_the_totals() -> None:
    for row in table("mode", "component"):
        found = {c.component: c for c in traced().batch_trace(row["mode"]).components}[row["component"]]
        for column in ("traffic", "mass", "share", "visits", "contested", "won", "flow"):
            assert getattr(found, column) == pytest.approx(float(row[column]), abs=NEAR), (row, column)
    vertices = traced().vertices()
    order = ["h", "p", "r", "s", "q", "ℓ"]
    names = dict(zip([v.idx for v in vertices if v.kind in ("operator", "loss")], order, strict=True))
    names |= {v.idx: v.name for v in vertices if v.kind == "parameter"}
    flow = {(names[e.source], names[e.target]): e.flow for e in traced().edges() if e.source in names}
    for row in table("from", "to"):
        assert flow[row["from"], row["to"]] == pytest.approx(float(row["greedy: |w·g_u|"]))
