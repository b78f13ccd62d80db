"""The structure of a traced step: operators, parameters and the edges between them, without any values.

A `Graph` is what steps and runs share; the values of one step are in `gradtrace.tracer.steptrace`. All classes are
frozen and hold plain data only (no tensors, no autograd nodes), so that they can be pickled, written and compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from gradtrace.tracer.component_names import ROOT, ancestors

KINDS = ("operator", "parameter", "constant", "loss")


@dataclass(frozen=True, slots=True)
class Component:
    """A named part of the model.

    Attributes:
        path: full dotted name, unique in the model (`"lstm.l0.carry"`); `"<model>"` is the model itself.
        name: the last part of the path (`"carry"`).
        role: what the user said it is for (`"skip"`), or None.
        depth: 0 for the model itself, 1 for its children, and so on.
        parent: path of the component that contains it, or None for the model itself.
    """

    path: str
    name: str
    role: str | None
    depth: int
    parent: str | None


@dataclass(frozen=True, slots=True)
class Vertex:
    """One operator instance, parameter tensor or constant operand of the graph.

    Attributes:
        idx: position in `Graph.vertices`; operators stand in the order in which the forward pass recorded them.
        kind: `"operator"`, `"parameter"`, `"constant"` or `"loss"` (the operator that made the loss).
        op: autograd's node name without its `BackwardN` ending (`"Addmm"`); `""` for parameters and constants.
        name: the parameter's name, or a readable name of the operator (`"head/Addmm"`, `"cell/Mul#2"`).
        component: path of the innermost component it belongs to; None outside the model and every named region.
        shape: shape of the operator's (first) output or of the parameter; `()` for constants.
        time: which repetition of its component's call this is, counted from 0 (the time step of a recurrence);
            None where the operator is recorded once.
    """

    idx: int
    kind: str
    op: str
    name: str
    component: str | None
    shape: tuple[int, ...]
    time: int | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """The operator `target` read `source` through operand `slot`. Movement between the two is left out.

    Attributes:
        idx: position in `Graph.edges` and in every per-edge array of a step.
        source: `Vertex.idx` of what was read.
        target: `Vertex.idx` of the operator that read it.
        slot: position among the operands of the operator, as autograd counts them.
    """

    idx: int
    source: int
    target: int
    slot: int


@dataclass(frozen=True)
class Graph:
    """The operator graph of a step. Steps with equal structure share one `Graph` (and one `fingerprint`)."""

    name: str
    """Name of the architecture: the model's class, or `"function"` where there is no model."""
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    components: tuple[Component, ...]
    folded: bool = False
    """True where repetitions over time were folded into one vertex each (their values are summed)."""

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the whole structure: equal for two graphs exactly if vertices, edges and components are."""
        return _digest(
            [
                self.name,
                self.folded,
                [[v.kind, v.op, v.name, v.component, list(v.shape), v.time] for v in self.vertices],
                [[e.source, e.target, e.slot] for e in self.edges],
                self.architecture_hash,
            ]
        )

    @cached_property
    def architecture_hash(self) -> str:
        """Hex digest of the component tree alone: equal for all batch sizes and sequence lengths of one model."""
        return _digest([self.name, sorted([c.path, c.role or ""] for c in self.components)])

    @cached_property
    def loss(self) -> Vertex:
        """The vertex of the operator that made the loss."""
        return next(v for v in self.vertices if v.kind == "loss")

    @cached_property
    def component_by_path(self) -> dict[str, Component]:
        """Every component by its path."""
        return {c.path: c for c in self.components}


def components_from_paths(roles: dict[str, str | None]) -> tuple[Component, ...]:
    """All components named in `roles` (path → role) with their ancestors, parents before children."""
    paths = {a for path in roles for a in ancestors(path)}
    made = []
    for path in sorted(paths, key=lambda p: (len(ancestors(p)), p)):
        line = ancestors(path)
        made.append(
            Component(
                path=path,
                name=path if path == ROOT else path.rsplit(".", 1)[-1],
                role=roles.get(path),
                depth=len(line) - 1,
                parent=line[1] if len(line) > 1 else None,
            )
        )
    return tuple(made)


def _digest(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
