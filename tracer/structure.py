"""From nodes to the `Graph` that sinks are given: vertices, edges, components and whose scalars are whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from gradtrace.tracer.component_names import ROOT, ancestors
from gradtrace.tracer.components import Recorded
from gradtrace.tracer.graph import Edge, Graph, Vertex, components_from_paths
from gradtrace.tracer.recurrent_parts import Parts, operator_parts, parameter_parts
from gradtrace.tracer.walk import Node, Walk

MAX_BLOCKS = 4


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter tensor of a plan: a leaf tensor, or (tensor None) one that no operator read."""

    name: str
    tensor: int | None
    vertex: int
    shape: tuple[int, ...]


@dataclass
class Layout:
    """Names for a plan's numbers.

    Attributes:
        graph: vertices are parameters, then constants, then operators in forward order; edges of records first, the rest lead from
            constants.
        paths: component path by component number.
        parts: per tensor, the component numbers of its blocks (-1: none) and the number of scalars in a block.
        parameters: parameter tensors in the model's order.
        vertex_of_tensor: vertex index of every tensor.
        edge_of: per record, its edge; edge_sources: per edge, the vertex it leaves.
        aliases: further names of tied parameters → the first name.
        groups: per group (a block of a parameter), (parameter position, component path or None).
    """

    graph: Graph
    paths: list[str]
    parts: list[tuple[tuple[int, ...], int]]
    parameters: list[ParameterInfo]
    vertex_of_tensor: list[int]
    groups: list[tuple[int, str | None]]
    group_start: np.ndarray
    group_count: np.ndarray
    group_inner: np.ndarray
    aliases: dict[str, str]
    edge_of: np.ndarray
    edge_sources: np.ndarray

    def component_arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(scalars in a block, number of blocks, component numbers [tensors, MAX_BLOCKS]) for the compiled code."""
        table = np.full((len(self.parts), MAX_BLOCKS), -1, np.int32)
        for at, (numbers, _) in enumerate(self.parts):
            table[at, : len(numbers)] = numbers
        return (
            np.array([max(inner, 1) for _, inner in self.parts], np.int64),
            np.array([len(numbers) for numbers, _ in self.parts], np.int64),
            table,
        )


@dataclass(frozen=True)
class Ancestry:
    """Which components contain which, as the compiled code reads it: entry e is listed[start[e] : start[e + 1]].

    Attributes:
        start, listed: element e > 0 of a sequence (component number e - 1) → positions in `graph.components` of that component and
            its ancestors; element 0 → none.
        owner_start, owners: likewise, group → components that contain the parameters of the group.
        entered_edge, entered: pairs of an operator edge and a component that it leads into from outside (parameters count as
            outside).
    """

    start: np.ndarray
    listed: np.ndarray
    owner_start: np.ndarray
    owners: np.ndarray
    entered_edge: np.ndarray
    entered: np.ndarray


def ancestry(layout: Layout) -> Ancestry:
    """Work out who contains whom, once a plan."""
    number = {c.path: at for at, c in enumerate(layout.graph.components)}

    def listed(names: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        found = [[number[a] for a in ancestors(n)] if n is not None else [] for n in names]
        return np.cumsum([0] + [len(f) for f in found]).astype(np.int64), np.array(
            [c for f in found for c in f], np.int64
        )

    pairs = []
    vertices = layout.graph.vertices
    for edge in layout.graph.edges:
        target, source = vertices[edge.target], vertices[edge.source]
        if target.component is None:
            continue
        outside = source.kind not in ("operator", "loss") or source.component is None
        beneath = () if outside else ancestors(source.component or "")
        pairs += [(edge.idx, number[path]) for path in ancestors(target.component) if path not in beneath]
    crossing = np.array(pairs, np.int64).reshape(-1, 2)
    return Ancestry(
        *listed([None, *layout.paths]), *listed([owner for _, owner in layout.groups]), crossing[:, 0], crossing[:, 1]
    )


def describe(
    walk: Walk,
    recorded: Recorded,
    model: nn.Module | None,
    tensors: Sequence[tuple[int, int]],
    leaf_tensors: int,
    aliases: dict[int, list[int]],
    edges: Sequence[tuple[int, int, int]],
    operators: Sequence[int],
    loss_tensor: int,
    producer: Callable[[Node, int], tuple[int, int] | None],
    leaf_behind: Callable[[Node, int], int | None],
) -> Layout:
    """Name everything. `edges` are (source tensor, operator node, slot) of each record."""
    names = _parameter_names(model)
    modules = {name or ROOT: module for name, module in model.named_modules()} if model is not None else {}
    parts, times = _operator_components(walk, recorded, modules, names, operators, producer, leaf_behind)
    vertices: list[Vertex] = []
    parameters: list[ParameterInfo] = []
    leaf_parts: list[Parts | None] = []
    vertex_of_leaf: dict[int, int] = {}
    for tensor in range(leaf_tensors):
        node = walk.nodes[tensors[tensor][0]]
        known = [names[id(v)] for a in aliases[tensor] if id(v := walk.nodes[a].variable) in names]
        name = known[0] if known else f"leaf{tensor}"
        part = _parameter_component(name, modules) if known else None
        leaf_parts.append(part)
        learnt = bool(known) or model is None
        vertex_of_leaf[tensor] = len(vertices)
        vertices.append(
            Vertex(len(vertices), "parameter" if learnt else "constant", "", name, _whole(part), tuple(node.shapes[0]))
        )
        if learnt:
            parameters.append(ParameterInfo(name, tensor, vertex_of_leaf[tensor], tuple(node.shapes[0])))
    parameters += _unread(model, walk, vertices, modules, parameters)
    constants: list[tuple[int, int, int]] = []
    for index in operators:
        for slot, source in enumerate(walk.nodes[index].inputs):
            if source is None:
                constants.append((len(vertices), index, slot))
                vertices.append(Vertex(len(vertices), "constant", "", f"constant{len(constants) - 1}", None, ()))
    vertex_of_node: dict[int, int] = {}
    loss_node = tensors[loss_tensor][0]
    seen: Counter[str] = Counter()
    for index in operators:
        node = walk.nodes[index]
        path = _whole(parts.get(index))
        label = f"{path or '-'}/{node.op}"
        count = seen[label]
        seen[label] += 1
        vertex_of_node[index] = len(vertices)
        vertices.append(
            Vertex(
                len(vertices),
                "loss" if index == loss_node else "operator",
                node.op,
                f"{label}#{count}" if count else label,
                path,
                tuple(node.shapes[0]),
                times.get(index),
            )
        )
    vertex_of_tensor = [
        vertex_of_leaf[t] if t < leaf_tensors else vertex_of_node.get(tensors[t][0], -1) for t in range(len(tensors))
    ]
    # Two outputs of one operator read by one slot (var_mean) are one operator edge.
    keys = [(vertex_of_tensor[t], vertex_of_node[n], slot) for t, n, slot in edges]
    edge_at = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    made = [Edge(at, *key) for key, at in edge_at.items()]
    made += [Edge(len(edge_at) + i, v, vertex_of_node[n], slot) for i, (v, n, slot) in enumerate(constants)]
    tensor_parts = [leaf_parts[t] if t < leaf_tensors else parts.get(tensors[t][0]) for t in range(len(tensors))]
    named = sorted({a for part in tensor_parts for p in _listed(part) for a in ancestors(p)} | set(modules))
    paths = {path: at for at, path in enumerate(named)}
    roles = {path: recorded.roles.get(path) for path in named}
    graph = Graph(
        type(model).__name__ if model is not None else "function",
        tuple(vertices),
        tuple(made),
        components_from_paths(roles),
    )
    sizes = [walk.nodes[n].shapes[o] for n, o in tensors]
    numbered = []
    for t, part in enumerate(tensor_parts):
        listed = _listed(part)
        blocks = len(listed) or 1
        along = sizes[t][0] if t < leaf_tensors and sizes[t] else (sizes[t][-1] if sizes[t] else 1)
        inner = (
            (sizes[t].numel() // blocks if t < leaf_tensors else along // blocks) if blocks > 1 else sizes[t].numel()
        )
        numbered.append((tuple(paths[p] for p in listed) or (-1,), inner))
    groups, start, counts, group_inner = _groups(parameters, tensor_parts, numbered, leaf_tensors)
    return Layout(
        graph,
        named,
        numbered,
        parameters,
        vertex_of_tensor,
        groups,
        start,
        counts,
        group_inner,
        aliases_of(model, walk, tensors, aliases, names),
        np.array([edge_at[key] for key in keys], np.int64),
        np.array([edge.source for edge in made], np.int64),
    )


def _groups(
    parameters: Sequence[ParameterInfo],
    parts: Sequence[Parts | None],
    numbered: Sequence[tuple[tuple[int, ...], int]],
    leaf_tensors: int,
) -> tuple[list[tuple[int, str | None]], np.ndarray, np.ndarray, np.ndarray]:
    groups: list[tuple[int, str | None]] = []
    start = np.zeros(max(leaf_tensors, 1), np.int64)
    count = np.ones(max(leaf_tensors, 1), np.int64)
    inner = np.ones(max(leaf_tensors, 1), np.int64)
    for at, info in enumerate(parameters):
        if info.tensor is None:
            continue
        listed = _listed(parts[info.tensor]) or (None,)
        start[info.tensor], count[info.tensor] = len(groups), len(listed)
        inner[info.tensor] = max(numbered[info.tensor][1], 1)
        groups += [(at, path) for path in listed]
    return groups, start, count, inner


def _parameter_names(model: nn.Module | None) -> dict[int, str]:
    """First name of every parameter by identity."""
    return {id(p): name for name, p in model.named_parameters()} if model is not None else {}


def aliases_of(
    model: nn.Module | None,
    walk: Walk,
    tensors: Sequence[tuple[int, int]],
    aliases: dict[int, list[int]],
    names: dict[int, str],
) -> dict[str, str]:
    """Further names of parameters that are one leaf (the same object, or shared storage) → the leaf's name."""
    if model is None:
        return {}
    main = dict(names)
    for members in aliases.values():
        known = [names[i] for a in members if (i := id(walk.nodes[a].variable)) in names]
        main.update({id(walk.nodes[a].variable): known[0] for a in members if known})
    every = model.named_parameters(remove_duplicate=False)
    return {name: main[id(p)] for name, p in every if main[id(p)] != name}


def _unread(
    model: nn.Module | None,
    walk: Walk,
    vertices: list[Vertex],
    modules: dict[str, nn.Module],
    known: Sequence[ParameterInfo],
) -> list[ParameterInfo]:
    """Trainable parameters of the model that the loss does not depend on; their vertices are added."""
    if model is None:
        return []
    met = {id(node.variable) for node in walk.nodes[: walk.leaves]}
    found = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in met:
            part = _whole(_parameter_component(name, modules))
            found.append(ParameterInfo(name, None, len(vertices), tuple(parameter.shape)))
            vertices.append(Vertex(len(vertices), "parameter", "", name, part, tuple(parameter.shape)))
    return found


def _parameter_component(name: str, modules: dict[str, nn.Module]) -> Parts | None:
    """Component(s) of a parameter: its module, or the gates whose rows it holds."""
    owner, _, local = name.rpartition(".")
    path = owner or ROOT
    module = modules.get(path)
    return (parameter_parts(path, module, local) if module is not None else None) or path


def _operator_components(
    walk: Walk,
    recorded: Recorded,
    modules: dict[str, nn.Module],
    names: dict[int, str],
    operators: Sequence[int],
    producer: Callable[[Node, int], tuple[int, int] | None],
    leaf_behind: Callable[[Node, int], int | None],
) -> tuple[dict[int, Parts], dict[int, int]]:
    """Component(s) and repetition of every operator."""
    calls = Counter({place.path: place.call + 1 for place in recorded.places})
    for place in recorded.places:
        calls[place.path] = max(calls[place.path], place.call + 1)
    parts: dict[int, Parts] = {}
    times: dict[int, int] = {}
    recurrent: dict[tuple[str, int], list[Node]] = {}
    for index in operators:
        node = walk.nodes[index]
        place = recorded.place(node.sequence)
        if place.path is None:
            continue
        parts[index] = place.path
        if calls[place.path] > 1:
            times[index] = place.call
        if isinstance(modules.get(place.path), nn.RNNBase | nn.RNNCellBase):
            recurrent.setdefault((place.path, place.call), []).append(node)
    for (path, call), nodes in recurrent.items():
        module = modules[path]
        prefix = "" if path == ROOT else path + "."
        weights: dict[int, str] = {}
        for node in nodes:
            for slot in range(len(node.inputs)):
                leaf = leaf_behind(node, slot)
                name = names.get(id(walk.nodes[leaf].variable), "") if leaf is not None else ""
                local = name.removeprefix(prefix)
                if local.startswith("weight_") and "." not in local:
                    weights[node.index] = local
        for index, (part, step) in operator_parts(path, module, nodes, weights, producer).items():
            parts[index] = part
            if not isinstance(module, nn.RNNBase):
                times[index] = call
            elif step is not None:
                times[index] = step
            else:
                times.pop(index, None)
    return parts, times


def _listed(part: Parts | None) -> tuple[str, ...]:
    return () if part is None else (part,) if isinstance(part, str) else part


def _whole(part: Parts | None) -> str | None:
    """One path for a part: of several blocks, what contains them all."""
    if part is None or isinstance(part, str):
        return part
    return ancestors(part[0])[1]


__all__ = ["Layout", "ParameterInfo", "describe"]
