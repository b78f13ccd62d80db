"""A trace as a NetworkX graph: nothing lost, and nothing that GraphML cannot hold."""

from __future__ import annotations

import io

import networkx as nx
import torch
from torch import nn

from gradtrace.tracer import Trace, component, trace
from gradtrace.tracer.adapters.networkx import to_networkx


def traced() -> Trace:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def loss() -> torch.Tensor:
        h = net(torch.ones(2, 3))
        with component("größe"):
            return (h * h).mean()

    return trace(loss, net, mode=("greedy", "maxprod"))


def test_it_has_all_vertices_and_edges_with_their_numbers() -> None:
    t = traced()
    g = to_networkx(t, "maxprod")
    assert g.graph["mode"] == "maxprod" and g.graph["fingerprint"] == t.graph.fingerprint
    assert [g.nodes[v.idx]["name"] for v in t.vertices()] == [v.name for v in t.graph.vertices]
    rows = t.edges("maxprod")
    assert g.number_of_edges() == len(rows)
    for row in rows:
        held = g.edges[row.source, row.target, row.slot]
        assert {name: held[name] for name in ("idx", "flow", "peak", "traffic", "mass", "dominant")} == {
            name: row[name] for name in ("idx", "flow", "peak", "traffic", "mass", "dominant")
        }
    assert any(e[3] == 1 for e in g.edges(keys=True, data="slot", default=1))
    # h * h reads one tensor through two slots: two parallel edges.
    assert any(len(g[a][b]) == 2 for a, b in g.edges())


def test_dominant_edges_lead_every_parameter_to_the_loss() -> None:
    t = traced()
    g = to_networkx(t)
    ways = nx.DiGraph((a, b) for a, b, data in g.edges(data=True) if data["dominant"])
    for v in t.graph.vertices:
        if v.kind == "parameter":
            assert nx.has_path(ways, v.idx, t.graph.loss.idx)


def test_it_can_be_written_as_graphml_and_read_back() -> None:
    g = to_networkx(traced().batch_trace("greedy"))
    file = io.BytesIO()
    nx.write_graphml(g, file)
    file.seek(0)
    back = nx.read_graphml(file, node_type=int, edge_key_type=int, force_multigraph=True)
    assert dict(back.nodes(data=True)) == dict(g.nodes(data=True))
    edges = {(a, b, data["idx"]): data["flow"] for a, b, data in g.edges(data=True)}
    assert {(a, b, data["idx"]): data["flow"] for a, b, data in back.edges(data=True)} == edges
