"""Which component each scalar belongs to, found by the oracle's own means.

Module calls are intervals of autograd's sequence numbers; the parts of nn.LSTM and nn.GRU are told scalar by scalar,
from the rows of the weights and from what each scalar was made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from tests.oracle.scalar_graph import ScalarGraph

ROOT = "<model>"
LSTM_GATES = ("input_gate", "forget_gate", "cell_gate", "output_gate")
GRU_GATES = ("reset_gate", "update_gate", "new_gate")


@dataclass(frozen=True)
class Call:
    """One call of a module: the sequence numbers of the nodes recorded inside."""

    path: str
    first: int
    end: int


def inside(component: str | None, container: str) -> bool:
    """Whether `component` is `container` or a part of it."""
    if component is None:
        return False
    return container == ROOT or component == container or component.startswith(container + ".")


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Call]]:
    """Record every module call of `model` while the block runs."""
    calls: list[Call] = []
    opened: list[tuple[str, int]] = []
    handles = []
    for name, module in model.named_modules():
        path = name or ROOT

        def before(_m: nn.Module, _a: object, path: str = path) -> None:
            opened.append((path, _now()))

        def after(_m: nn.Module, _a: object, _o: object) -> None:
            path, first = opened.pop()
            calls.append(Call(path, first, _now()))

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _now() -> int:
    """The sequence number that the next node will get."""
    probe = torch.zeros((), requires_grad=True)
    with torch.enable_grad():
        return int(probe.view(()).grad_fn._sequence_nr()) + 1


def operator_components(graph: ScalarGraph, calls: list[Call]) -> dict[int, str | None]:
    """Per operator node, the innermost module call that recorded it."""
    found: dict[int, str | None] = {}
    for node in graph.operators:
        around = [c for c in calls if c.first <= node.sequence < c.end]
        found[node.position] = max(around, key=lambda c: c.first, default=Call("", 0, 0)).path or None
    return found


@dataclass(eq=False)
class ComponentMap:
    """Component of every vertex of a scalar graph (None outside the model and every named region)."""

    of: list[str | None]

    def of_path(self, graph: ScalarGraph, edges: list[int]) -> list[str | None]:
        """Component of each operator that a path crosses."""
        return [self.of[int(graph.target[e])] for e in edges]


def common(paths: set[str | None]) -> str | None:
    """The innermost component that contains all of `paths`; None if one of them belongs to none."""
    if None in paths or not paths:
        return None
    lines = [[] if p == ROOT else str(p).split(".") for p in paths]
    shared = []
    for parts in zip(*lines, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared) or ROOT


def node_components(graph: ScalarGraph, components: ComponentMap) -> dict[int, str | None]:
    """Component of each operator as a whole: what its scalars have in common."""
    of: dict[int, set[str | None]] = {}
    for v in graph.vertices[graph.crossing[graph.vertices]]:
        of.setdefault(int(graph.owner[v]), set()).add(components.of[v])
    return {position: common(paths) for position, paths in of.items()}


def component_map(graph: ScalarGraph, model: nn.Module, operators: dict[int, str | None]) -> ComponentMap:
    """Components of all vertices, from the component of each operator node (by position)."""
    of: list[str | None] = [None] * graph.size
    for vertex in graph.vertices:
        node = graph.recording.nodes[graph.owner[vertex]]
        if node.leaf is None:
            of[vertex] = operators.get(node.position)
    for name, parameter in reversed(list(model.named_parameters())):  # of those over one storage, the first has its say
        scalars = graph.leaf_scalars(parameter)
        if scalars is not None:
            for v in scalars:
                of[v] = name.rpartition(".")[0] or ROOT
    for path, module in model.named_modules():
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            _tell_parts(graph, path, module, of)
    return ComponentMap(of)


def gates_of(module: nn.Module) -> tuple[str, ...]:
    """The blocks of rows of a recurrent module's weights, in PyTorch's order."""
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return LSTM_GATES
    return GRU_GATES if isinstance(module, (nn.GRU, nn.GRUCell)) else ()


def _tell_parts(graph: ScalarGraph, path: str, module: nn.RNNBase | nn.RNNCellBase, of: list[str | None]) -> None:
    """Name the parts of one recurrent module: what a scalar was made of says which part it is."""
    gates = gates_of(module)
    layer: dict[int, str] = {}  # vertex → path of its layer and direction
    role: dict[int, str] = {}  # vertex → part; "" for the layer itself
    for name, parameter in module.named_parameters(recurse=False):
        scalars = graph.leaf_scalars(parameter)
        if scalars is None:
            continue
        row = len(scalars) // len(parameter)
        part = name.removeprefix("weight_").removeprefix("bias_")
        split = part.split("_", 1)
        where = ".".join(p for p in (path, *split[1:]) if p) or ROOT
        for i, v in enumerate(scalars):
            layer[int(v)] = where
            role[int(v)] = gates[i // row // module.hidden_size] if gates and split[0] != "hr" else ""
    leaves = set(role)
    sources: dict[int, list[int]] = {}
    for s, u in zip(graph.source, graph.target, strict=True):
        sources.setdefault(int(u), []).append(int(s))
    for vertex in graph.vertices:  # operands come first
        u = int(vertex)
        node = graph.recording.nodes[graph.owner[u]]
        if node.leaf is not None or of[u] != (path or ROOT):
            continue
        below = sources.get(u, []) + graph.opposite(u)
        own = [v for v in below if v in leaves]
        known = [v for v in (own or below) if v in role]
        if not known:
            continue
        got = _role(node.name, {role[v] for v in known}, bool(own), gates)
        if got is not None:
            role[u], layer[u] = got, layer[known[0]]
    for v, r in role.items():
        of[v] = f"{layer[v]}.{r}" if r else layer[v]


def _role(op: str, made_of: set[str], reads_weights: bool, gates: tuple[str, ...]) -> str | None:
    """Part of one scalar, from the operator that made it and the parts of what it was made of; None if unknown."""
    if reads_weights:
        return next(iter(made_of)) if len(made_of) == 1 else None
    if gates == LSTM_GATES:
        return _lstm_role(op, made_of)
    if gates == GRU_GATES:
        mixes = {"Sub": True, "Add": "mixing" in made_of, "Mul": made_of >= {"mixing", "update_gate"}}
        if mixes.get(op):
            return "mixing"
        if "mixing" in made_of:
            return None
        return "new_gate" if "new_gate" in made_of else next(iter(made_of))
    return "" if op in ("Add", "Tanh", "Relu") else None


def _lstm_role(op: str, made_of: set[str]) -> str | None:
    if op == "Mul":
        by_gate = {"forget_gate": "carry", "output_gate": "hidden", "input_gate": "write", "cell_gate": "write"}
        return next((part for gate, part in by_gate.items() if gate in made_of), None)
    if op == "Add" and made_of & {"carry", "write"}:
        return "cell"
    if op in ("Add", "Sigmoid", "Tanh"):
        return next(iter(made_of & {*LSTM_GATES, "cell"}), None)
    return None
