"""Which nodes a step has to hook: a gradient can be seen where it leaves one operator or where it enters the next.

Each hook costs a call from the engine and the wrapping of what it is shown, which small operators feel. Where an output has one
reader and that is an operator, both see the same tensor, so one of the two is enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradtrace.tracer.walk import Walk

Place = tuple[int, int, int]
"""(node, side, number): side 0 is the gradient of operand `number`, side 1 that of output `number`."""

OPERAND, OUTPUT = 0, 1


@dataclass(frozen=True)
class Hooks:
    """Where gradients are caught.

    Attributes:
        nodes: nodes to hook.
        outputs: per plan tensor that an operator made, where its gradient is seen (None for leaves).
        operands: per (node, slot) asked for, where the gradient of that operand is seen.
    """

    nodes: tuple[int, ...]
    outputs: tuple[Place | None, ...]
    operands: dict[tuple[int, int], Place]


def every_hook(
    operators: Sequence[int], tensors: Sequence[tuple[int, int]], leaves: int, asked: Iterable[tuple[int, int]]
) -> Hooks:
    """Hook all operators: what a structure needs the first time, when it is checked that gradients add up."""
    return Hooks(
        tuple(operators),
        tuple(None if at < leaves else (node, OUTPUT, output) for at, (node, output) in enumerate(tensors)),
        {place: (place[0], OPERAND, place[1]) for place in asked},
    )


def fewest_hooks(
    walk: Walk,
    operators: Sequence[int],
    tensors: Sequence[tuple[int, int]],
    leaves: int,
    asked: Iterable[tuple[int, int]],
) -> Hooks:
    """Hooks that see every gradient asked for, about half as many where operators follow each other in a line."""
    wanted = list(asked)
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
    hooked |= {node for node, slot in wanted if (node, slot) not in linked}
    for place, (index, _) in reader.items():
        if place[0] not in hooked and index not in hooked:
            hooked.add(index)

    def output(place: tuple[int, int]) -> Place:
        if place[0] in hooked:
            return place[0], OUTPUT, place[1]
        return reader[place][0], OPERAND, reader[place][1]

    return Hooks(
        tuple(index for index in operators if index in hooked),
        tuple(None if at < leaves else output(place) for at, place in enumerate(tensors)),
        {place: (place[0], OPERAND, place[1]) if place[0] in hooked else output(linked[place]) for place in wanted},
    )
