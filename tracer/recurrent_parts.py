"""The parts of nn.LSTM, nn.GRU and nn.RNN (and their cells), told from the decomposed operators that they record.

PyTorch runs a recurrent module layer by layer and direction by direction; each time step reads the recurrent weight
once, in an `Addmm` or `Mm`. From one such operator to the next lies one step of one layer and direction, and inside it the
number of the gate chunk that an activation reads says which gate it is (i, f, g, o in an LSTM; r, z, n in a GRU).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from torch import nn

from gradtrace.tracer.component_names import join
from gradtrace.tracer.walk import Node

LSTM_GATES = ("input_gate", "forget_gate", "cell_gate", "output_gate")
GRU_GATES = ("reset_gate", "update_gate", "new_gate")
_WEIGHT = re.compile(r"^(weight|bias)_(ih|hh|hr)(_l(\d+)(_reverse)?)?$")

Parts = str | tuple[str, ...]
"""A component path, or the paths of equal blocks along the last dimension (first, for parameters)."""
Producer = tuple[int, int] | None
"""The operator that made an operand through movement, and the first chunk number met on the way (-1: none)."""


def gates_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the gate blocks of a recurrent module, in PyTorch's order; empty for an Elman RNN."""
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return LSTM_GATES
    if isinstance(module, nn.GRU | nn.GRUCell):
        return GRU_GATES
    return ()


def parameter_parts(path: str, module: nn.Module, parameter: str) -> Parts | None:
    """Component(s) of a parameter of a recurrent module, by its name inside the module; None if it is not one."""
    match = _WEIGHT.match(parameter)
    if not isinstance(module, nn.RNNBase | nn.RNNCellBase) or match is None:
        return None
    layer = layer_path(path, match)
    gates = gates_of(module)
    return tuple(join(layer, g) for g in gates) if gates and match[2] != "hr" else layer


def layer_path(path: str, match: re.Match[str]) -> str:
    """`"lstm"` and `weight_hh_l0_reverse` → `"lstm.l0_reverse"`; cells have no layers."""
    return join(path, match[3].lstrip("_")) if match[3] else path


def operator_parts(
    path: str,
    module: nn.Module,
    nodes: Sequence[Node],
    weights: dict[int, str],
    producer: Callable[[Node, int], Producer],
) -> dict[int, tuple[Parts, int | None]]:
    """Component(s) and time step of the operators of one call of a recurrent module.

    Args:
        path: component path of the module.
        module: the module.
        nodes: its non-movement operators of this call, in forward order.
        weights: operator index → name of the module's weight that it reads.
        producer: what made an operand of an operator.

    Returns:
        operator index → (parts, step within its layer and direction, or None before the first step). Operators
        that are not told apart are left out.
    """
    gates = gates_of(module)
    found: dict[int, tuple[Parts, int | None]] = {}
    part: dict[int, str] = {}
    layer: str | None = None
    step: int | None = None
    last: dict[str, int] = {}
    reads = Counter(weights[node.index] for node in nodes if node.index in weights)
    for node in nodes:
        name = weights.get(node.index)
        if name is not None:
            match = _WEIGHT.match(name)
            if match is None:
                continue
            layer = layer_path(path, match)
            # The input weights are applied to all steps at once, before the first of them (cells: in each call), or on a
            # GPU in each step.
            if match[2] == "hh":
                last[layer] = last.get(layer, -1) + 1
            step = last.get(layer)
            if match[2] == "ih":
                step = None if reads[name] == 1 else last.get(layer, -1) + 1
            blocks = tuple(join(layer, g) for g in gates)
            found[node.index] = (blocks if blocks and match[2] != "hr" else layer, step)
            if match[2] != "hr":
                part[node.index] = "gates"
            continue
        if layer is None:
            continue
        read = [p for p in (producer(node, slot) for slot in range(len(node.inputs))) if p is not None]
        label = _label(node.op, read, part, gates)
        if label is None:
            # Dropout between layers belongs to the module itself; an Elman RNN has no parts below its layers.
            if not gates and node.op in ("Add", "Tanh", "Relu"):
                found[node.index] = (layer, step)
        elif label == "gates":
            part[node.index] = label
            found[node.index] = (tuple(join(layer, g) for g in gates) or layer, step)
        else:
            part[node.index] = label
            found[node.index] = (join(layer, label), step)
    return found


def _label(op: str, read: Sequence[tuple[int, int]], part: dict[int, str], gates: tuple[str, ...]) -> str | None:
    labels = [part.get(index, "") for index, _ in read]
    chunks = [chunk for (_, chunk), label in zip(read, labels, strict=True) if label == "gates"]
    if len(gates) == 4:
        return _lstm_label(op, labels, [c for c in chunks if c >= 0], gates)
    if len(gates) == 3:
        return _gru_label(op, labels, [c for c in chunks if c >= 0], gates)
    return None


def _lstm_label(op: str, labels: Sequence[str], chunks: Sequence[int], gates: tuple[str, ...]) -> str | None:
    if chunks and op in ("Sigmoid", "Tanh"):
        return gates[chunks[0] % 4]
    if op == "Add":
        return "gates" if "gates" in labels else "cell" if {"carry", "write"} & set(labels) else None
    if op == "Mul":
        if "output_gate" in labels:
            return "hidden"
        if "forget_gate" in labels:
            return "carry"
        return "write" if {"input_gate", "cell_gate"} & set(labels) else None
    return "cell" if op == "Tanh" and "cell" in labels else None


def _gru_label(op: str, labels: Sequence[str], chunks: Sequence[int], gates: tuple[str, ...]) -> str | None:
    if op == "Add" and chunks:
        return gates[chunks[0] % 3]
    if op in ("Sigmoid", "Tanh"):
        return next((label for label in labels if label in gates), None)
    if op == "Mul" and "reset_gate" in labels:
        return "new_gate"
    if (op in ("Sub", "Rsub", "Add") and {"new_gate", "mixing"} & set(labels)) or (
        op == "Mul" and "update_gate" in labels
    ):
        return "mixing"
    return "gates" if op == "Add" and not chunks and "gates" in labels else None
