"""The scalar graph in which the edges into some components have weight 0, with the gradients that this leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.oracle.components import ComponentMap, inside
from tests.oracle.oracle import Oracle
from tests.oracle.scalar_graph import ScalarGraph


def block(graph: ScalarGraph, components: ComponentMap, names: Sequence[str]) -> ScalarGraph:
    """Set the weights of all edges into scalars of these components to 0, and sum the gradients anew from the loss down."""
    shut = np.array([any(inside(of, name) for name in names) for of in components.of], bool)
    leaf = np.array([node.leaf is not None for node in graph.recording.nodes])
    shut &= ~leaf[graph.owner]  # no edge leads into a parameter
    weight = np.where(shut[graph.target], 0.0, graph.weight)
    gradient = np.zeros(graph.size)
    gradient[graph.loss] = graph.gradient[graph.loss]
    for v in graph.vertices[::-1]:
        mine = graph.out[v]
        if v != graph.loss and len(mine):
            gradient[v] = float(np.sum(weight[mine] * gradient[graph.target[mine]]))
    gradient[shut] = 0.0  # nothing passes through them, so they count as nobody's way
    return replace(graph, weight=weight, gradient=gradient)


def blocked_oracle(oracle: Oracle, components: ComponentMap, names: Sequence[str]) -> Oracle:
    """The oracle of the same problem with these components blocked."""
    return Oracle(oracle.drawing, block(oracle.graph, components, names))
