"""One call from a problem's factory to everything that the oracle knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from tests.oracle.components import Call, ComponentMap, component_map, operator_components, watched
from tests.oracle.recording import Recording, decomposed_kernels, record
from tests.oracle.scalar_graph import ScalarGraph, build
from tests.oracle.traces import Traces

Make = Callable[[int], tuple[nn.Module, Callable[[], Tensor]]]
DRAWINGS = 3


@dataclass(eq=False)
class Drawing:
    """One recording of a problem, with its model and the calls of its modules."""

    model: nn.Module
    recording: Recording
    calls: list[Call]


def draw(make: Make, seed: int) -> Drawing:
    """Record a problem with freshly drawn floats, under decomposed kernels."""
    model, closure = make(seed)
    with decomposed_kernels(), watched(model) as calls:
        loss = closure()
    if loss.dim():
        loss = loss.reshape(())
    return Drawing(model, record(loss), list(calls))


@dataclass(eq=False)
class Oracle:
    """The scalar graph of a problem with its parameters by name (tied ones under their first name)."""

    drawing: Drawing
    graph: ScalarGraph

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """Parameters that take a gradient, by name; of those over one storage, the first."""
        found: dict[str, Tensor] = {}
        met: set[int] = set()
        for name, parameter in self.drawing.model.named_parameters():
            node = self.graph.recording.leaf_node(parameter)
            if parameter.requires_grad and (node is None or node.position not in met):
                found[name] = parameter
            if node is not None:
                met.add(node.position)
        return found

    @cached_property
    def operator_components(self) -> dict[int, str | None]:
        """Per operator node, the innermost module call that recorded it."""
        return operator_components(self.graph, self.drawing.calls)

    @cached_property
    def components(self) -> ComponentMap:
        """Component of every vertex, by module calls and the parts of fused recurrences."""
        return component_map(self.graph, self.drawing.model, self.operator_components)

    def traces(self, mode: str) -> Traces:
        """One mode's candidates."""
        return Traces(self.graph, mode)


def consult(make: Make, seed: int = 0) -> Oracle:
    """Build the oracle of a problem, judging movement by several drawings of its floats."""
    drawings = [draw(make, seed + k) for k in range(DRAWINGS)]
    return Oracle(drawings[0], build([d.recording for d in drawings]))


def consult_loss(loss: torch.Tensor, model: nn.Module) -> Oracle:
    """The oracle of one loss as it was recorded; movement is judged by this one drawing."""
    drawing = Drawing(model, record(loss), [])
    return Oracle(drawing, build([drawing.recording]))
