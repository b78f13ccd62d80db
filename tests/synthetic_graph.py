"""The random graphs that synthetic steps are of: the structure depends on the arguments alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradtrace.tracer.graph import Edge, Graph, Vertex, components_from_paths

_OPS = ("Addmm", "Mul", "Tanh", "Sigmoid", "Add", "Relu", "Softmax", "NativeLayerNorm")
_WIDTH = 8


@lru_cache(maxsize=64)
def make_graph(vertices: int = 40, parameters: int = 6, structure: int = 0, batch_size: int = 32) -> Graph:
    """The random graph behind `step_trace`: one loss, every operator on a way to it, constants, nested components."""
    constants = max(1, vertices // 25)
    operators = vertices - parameters - constants
    if operators < 2 or parameters < 1:
        raise ValueError(f"{vertices} vertices leave {operators} operators beside {parameters} parameters; need 2")
    rng = np.random.default_rng([structure, vertices, parameters])
    operands = _operands(rng, operators, parameters, constants)
    homes = _homes(operators)
    made: list[Vertex] = []
    place: dict[tuple[str, int], int] = {}
    ends: list[tuple[int, int, int]] = []

    def add(key: tuple[str, int], kind: str, op: str, name: str, home: str | None, shape: tuple[int, ...]) -> None:
        place[key] = len(made)
        time = int(home.split(".")[1]) if key[0] == "op" and home and home.startswith("rnn.") else None
        made.append(Vertex(len(made), kind, op, name, home, shape, time))

    def add_leaf(key: tuple[str, int], home: str | None) -> None:
        n = key[1]
        if key[0] == "parameter":
            shape = (3 + n % 4,) if n % 3 == 2 else (4, 3 + n % 4)
            add(key, "parameter", "", f"{home or 'free'}.p{n}", home, shape)
        else:
            add(key, "constant", "", f"constant#{n}", None, ())

    for n, read in enumerate(operands):
        for key in read:
            if key not in place:
                add_leaf(key, homes[n])
        last = n == operators - 1
        op = "NllLoss" if last else _OPS[int(rng.integers(len(_OPS)))]
        kind = "loss" if last else "operator"
        add(("op", n), kind, op, f"{homes[n] or 'loss'}/{op}#{n}", homes[n], () if last else (batch_size, _WIDTH))
        ends.extend((place[key], place[("op", n)], slot) for slot, key in enumerate(read))
    for n in range(parameters):
        if ("parameter", n) not in place:
            add_leaf(("parameter", n), "head")
    roles: dict[str, str | None] = {h: _role(h) for h in homes if h is not None}
    edges = tuple(Edge(i, *e) for i, e in enumerate(ends))
    return Graph("Synthetic", tuple(made), edges, components_from_paths(roles))


def _operands(rng: np.random.Generator, operators: int, parameters: int, constants: int) -> list[list[tuple[str, int]]]:
    """What each operator reads: the operator before it or others that nobody read yet, parameters, constants."""
    read: list[list[tuple[str, int]]] = [[] for _ in range(operators)]
    unread = parameters - 1 if parameters >= 4 else None
    for n in range(parameters):
        if n != unread:
            home = (n * operators) // parameters
            read[home].append(("parameter", n))
            if n % 5 == 4:  # a parameter with two consumers
                read[int(rng.integers(home, operators))].append(("parameter", n))
    for n in range(constants):
        read[int(rng.integers(operators))].append(("constant", n))
    waiting: list[int] = []
    for n in range(operators):
        if n and rng.random() < 0.94:
            read[n].append(("op", n - 1))
            waiting = [w for w in waiting if w != n - 1]
        if n > 1 and rng.random() < 0.5:
            back = waiting.pop(0) if waiting else int(rng.integers(max(0, n - 6), n))
            read[n].append(("op", back))
        if n % 11 == 10 and read[n]:  # x * x: two parallel edges
            read[n].append(read[n][-1])
        if not read[n]:
            read[n].append(("constant", int(rng.integers(constants))))
        if n < operators - 1:
            waiting.append(n)
    read[-1].extend(("op", w) for w in waiting if ("op", w) not in read[-1])
    return read


def _homes(operators: int) -> list[str | None]:
    """Component of each operator: embed, a recurrence, highway layers, head, and the loss outside of the model.

    The operators of a component stand together, as they do where a module runs.
    """
    layers = max(1, min(12, operators // 15))
    homes: list[str | None] = []
    for n in range(operators - 1):
        part = n / (operators - 1)
        if part < 0.1:
            homes.append("embed")
        elif part < 0.4:
            time, place = divmod((part - 0.1) / 0.1, 1)
            homes.append(f"rnn.{int(time)}.{('forget_gate', 'carry', 'cell')[int(3 * place)]}")
        elif part < 0.9:
            number, place = divmod((part - 0.4) / 0.5 * layers, 1)
            layer = f"layers.{min(layers - 1, int(number))}"
            homes.append((f"{layer}.transform", f"{layer}.carry", layer)[int(3 * place)])
        else:
            homes.append("<model>" if n % 5 == 0 else "head")
    return [*homes, None]


def _role(home: str) -> str | None:
    return "skip" if home.endswith(".carry") else None
