"""Which nodes a step has to hook: a gradient can be seen where it leaves one operator or where it enters the next.

Each hook costs a call from the engine and the wrapping of what it is shown, which small operators feel. Where an output has one
reader and that is an operator, both see the same tensor, so one of the two is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gradtrace.tracer.walk import Walk

Place = tuple[int, int, int]
"""(hook, side, number): side 0 is the gradient of operand `number` of the node hooked, side 1 that of output `number`."""

OPERAND, OUTPUT = 0, 1


@dataclass(frozen=True)
class Hooks:
    """Where gradients are caught.

    Attributes:
        nodes: nodes to hook.
        outputs: per plan tensor that an operator made, where its gradient is seen (None for leaves).
        operands: (pointer slot, where it is seen) of each gradient of an operand that is asked for.
    """

    nodes: tuple[int, ...]
    outputs: tuple[Place | None, ...]
    operands: tuple[tuple[int, Place], ...]


def every_hook(
    operators: Sequence[int], tensors: Sequence[tuple[int, int]], leaves: int, asked: dict[int, tuple[int, int]]
) -> Hooks:
    """Hook all operators: what a structure needs the first time, when it is checked that gradients add up.

    `asked` are operands, (node, operand) by pointer slot, whose gradients are needed besides those of outputs.
    """
    hook = {node: at for at, node in enumerate(operators)}
    return Hooks(
        tuple(operators),
        tuple(None if at < leaves else (hook[node], OUTPUT, output) for at, (node, output) in enumerate(tensors)),
        tuple((slot, (hook[node], OPERAND, operand)) for slot, (node, operand) in asked.items()),
    )


def fewest_hooks(
    walk: Walk,
    operators: Sequence[int],
    tensors: Sequence[tuple[int, int]],
    leaves: int,
    asked: dict[int, tuple[int, int]],
) -> Hooks:
    """Hooks that see every gradient asked for, about half as many where operators follow each other in a line."""
    readers = Counter(place for node in walk.nodes for place in node.inputs if place is not None)
    readers[walk.root] += 2  # the loss's own gradient comes from nobody
    known = set(operators)
    reader: dict[tuple[int, int], tuple[int, int]] = {}
    for index in operators:
        for slot, place in enumerate(walk.nodes[index].inputs):
            if place is not None and place[0] in known and readers[place] == 1:
                reader[place] = (index, slot)
    made = [place for at, place in enumerate(tensors) if at >= leaves]
    hooked = {node for node, output in made if (node, output) not in reader}
    linked = {operand: place for place, operand in reader.items()}
    hooked |= {node for node, slot in asked.values() if (node, slot) not in linked}
    for place, (index, _) in reader.items():
        if place[0] not in hooked and index not in hooked:
            hooked.add(index)
    nodes = tuple(index for index in operators if index in hooked)
    hook = {node: at for at, node in enumerate(nodes)}

    def output(place: tuple[int, int]) -> Place:
        if place[0] in hooked:
            return hook[place[0]], OUTPUT, place[1]
        return hook[reader[place][0]], OPERAND, reader[place][1]

    return Hooks(
        nodes,
        tuple(None if at < leaves else output(place) for at, place in enumerate(tensors)),
        tuple(
            (slot, (hook[place[0]], OPERAND, place[1]) if place[0] in hooked else output(linked[place]))
            for slot, place in asked.items()
        ),
    )
