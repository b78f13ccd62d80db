"""What the modes that follow no single path yield: how much gradient arrives over all paths, and over how many.

The words are those of `docs/semantics.md`. A path's weight is the absolute product of the partials on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradtrace.tracer.graph import Graph

SPREAD_MODES = ("entropy", "abs-sum")


@dataclass(frozen=True, slots=True)
class ParameterSpread:
    """All paths from one parameter tensor to the loss.

    Attributes:
        parameter: name; tied parameters are one tensor under the first name.
        vertex: `Vertex.idx` of the parameter.
        shape: shape of the parameter tensor.
        live: scalars from which a path of non-zero weight leads to the loss.
        mass: sum of |gradient|.
        abs_sum: sum of the weights of all paths.
        coherence: `mass / abs_sum`, in [0, 1]: 1 where no path cancels another; None where `abs_sum` is 0.
        entropy: entropy (in nats) of the distribution over all paths that is proportional to their weights; None in mode
            `"abs-sum"`, and where `abs_sum` is 0.
    """

    parameter: str
    vertex: int
    shape: tuple[int, ...]
    live: int
    mass: float
    abs_sum: float
    coherence: float | None
    entropy: float | None


@dataclass(frozen=True, slots=True)
class ComponentSpread:
    """The paths that cross one component (its descendants included), and those that start at its parameters.

    Attributes:
        component: path of the component.
        share: `abs_sum` over that of all paths of all parameters, in [0, 1].
        abs_sum: sum of the weights of the paths that cross it, each path once.
        own: the part of `abs_sum` from parameters inside the component.
        foreign: the part from parameters outside; `own + foreign == abs_sum`.
        coherence: as for a parameter, of all paths that start at parameters inside; None where there are none.
        entropy: likewise.
    """

    component: str
    share: float
    abs_sum: float
    own: float
    foreign: float
    coherence: float | None
    entropy: float | None


@dataclass(frozen=True, slots=True)
class SpreadTrace:
    """All paths of one batch, summed up in one mode.

    Attributes:
        mode: `"entropy"` or `"abs-sum"`.
        batch: `"training"` or `"probe"`.
        graph: structure that the rows refer to.
        loss: value of the loss on this batch.
        non_finite: whether NaN or ±inf was met in a weight (such edges are left out).
        parameters: one row a parameter tensor, in the order of the model.
        components: one row a component, in the order of `graph.components`.
    """

    mode: str
    batch: str
    graph: Graph
    loss: float
    non_finite: bool
    parameters: tuple[ParameterSpread, ...]
    components: tuple[ComponentSpread, ...]
