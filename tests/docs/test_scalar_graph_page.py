"""The queries of docs/how-to/scalar-graph.md, over the worked example of docs/semantics.md: they give its table of edges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from neo4j import GraphDatabase

from gradtrace.queries import Library
from gradtrace.service.store import Neo4jSink
from gradtrace.tracer import Tracer
from tests.docs.test_semantics import gradients, table, walk

if TYPE_CHECKING:
    from gradtrace.service.local import ServerInfo

DOCS = Path(__file__).parents[2] / "docs"
MODES = ("greedy", "maxprod")


@pytest.mark.full
def test_the_picture_is_the_table_of_the_worked_example(clean_store: ServerInfo) -> None:
    code = re.search(r"```python\n(.*?)```", (DOCS / "semantics.md").read_text("utf-8"), re.DOTALL)
    assert code
    scope: dict[str, Any] = {}
    exec(compile(code[1], "semantics.md", "exec"), scope)
    with Neo4jSink(clean_store.uri, clean_store.user, clean_store.password) as sink:
        tracer = Tracer(scope["model"], sink=sink, run="r", mode=MODES, granularity="scalar")
        with tracer.step() as step:
            step.backward(scope["loss"]())
    found = re.findall(r"```cypher\n(.*?)```", (DOCS / "how-to" / "scalar-graph.md").read_text("utf-8"), re.DOTALL)
    picture, path, chain = found
    with GraphDatabase.driver(clean_store.uri, auth=(clean_store.user, clean_store.password)) as driver:
        library, asked = Library(driver), {"run": "r", "step": 0}
        rows = library.cypher(picture, asked).rows
        made = list(dict.fromkeys(row["target"] for row in rows))  # operators by name, in the order of the forward pass
        graph = step.traces["training"].graph
        order = [v.name for v in graph.vertices if v.kind in ("operator", "loss")]
        names = dict(zip(order, ("h", "p", "r", "s", "q", "ℓ"), strict=True)) | {"w": "w", "c": "c"}
        assert set(made) == set(order)
        got = {(names[row["source"]], names[row["target"]]): row for row in rows}
        g = gradients()
        edges = table("from", "to")
        assert got.keys() == {(row["from"], row["to"]) for row in edges}
        for row in edges:
            mine = got[row["from"], row["to"]]
            assert mine["weight"] == pytest.approx(float(row["weight"]))
            assert mine["flow"] == pytest.approx(float(row["greedy: |w·g_u|"]))
            assert mine["gradient"] == pytest.approx(g[row["to"]])
            taken = [mode for mode in MODES if walk(mode, row["from"])[0][0] == row["to"]]
            assert mine["taken"] == taken
        [walked] = library.cypher(path.replace("head.bias", "w"), asked).rows
        assert [names[o] for o in walked["operators"]] == walk("greedy", "w")[0] and set(walked["indices"]) == {0}
        sums = library.cypher(chain, asked).rows
        assert len(sums) == 7  # all but the loss
        for row in sums:
            assert row["arrived"] == pytest.approx(row["gradient"])
