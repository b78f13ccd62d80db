"""The key of a plan: equal for two recordings exactly if one plan serves both."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradtrace.tracer import movement
from gradtrace.tracer.components import Recorded
from gradtrace.tracer.rules import attributes_of, inplace
from gradtrace.tracer.rules.inplace import COPY_SLICES
from gradtrace.tracer.walk import Skim, node_at, op_name

Key = tuple[Any, ...]


def plan_key(skimmed: Skim, recorded: Recorded) -> Key:
    """Equal for two recordings exactly if one plan serves both."""
    parts: list[Any] = []
    upstream, variables = skimmed.upstream, skimmed.variables
    for at, (fn, name) in enumerate(zip(skimmed.functions, skimmed.names, strict=True)):
        if at in variables:
            variable = variables[at]
            parts += (id(variable), variable.data_ptr(), variable.shape)
            continue
        read = _READ.get(name)
        if read is None:
            op = op_name(name)
            read = _READ[name] = tuple("_saved_" + n for n in movement.ATTRIBUTES.get(op) or attributes_of(op))
        shaped = _SHAPED_BY.get(name)
        if shaped is None or any(upstream[at][slot] is None for slot in shaped):
            parts += [tuple(m.shape) for m in fn._input_metadata]
        if read:
            parts.append(tuple([getattr(fn, n, None) for n in read]))
        elif name.endswith(COPY_SLICES):
            parts.append(inplace.signature(node_at(skimmed, at, range(len(skimmed.names)))))
    ranks = np.argsort(np.array(skimmed.numbers, np.int64), kind="stable").tobytes()
    return (
        tuple(skimmed.names), tuple(skimmed.upstream), skimmed.output, ranks, tuple(parts),
        recorded.all_places(skimmed.numbers),
    )  # fmt: skip


_READ: dict[str, tuple[str, ...]] = {}
"""Attributes, by node name, whose values are part of a key."""

_SHAPED_BY = {
    **dict.fromkeys(("TBackward0", "TanhBackward0", "ReluBackward0", "SigmoidBackward0", "GeluBackward0"), (0,)),
    "MmBackward0": (0, 1),
    "AddmmBackward0": (1, 2),
}
"""Operands that say what shape an operator's result has, by node name: where none is a constant, the key tells it already."""
