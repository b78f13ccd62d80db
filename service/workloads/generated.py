"""Examples that are made up: drawn until there are enough different ones, and cut into training and held-out ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from gradtrace.service.workloads.architecture_parameters import GeneratedParameters
from gradtrace.service.workloads.instance import Batch, Batches
from gradtrace.tracer.errors import SpecError

PROBE_SIZE = 32
Example = TypeVar("Example")


def distinct(draw: Callable[[], Example], count: int, what: str) -> list[Example]:
    """`count` different examples, in the order in which `draw` gave them first.

    Args:
        draw: makes one (hashable) example.
        count: how many.
        what: the parameters that there could be more by, for the error.

    Raises:
        SpecError: 50 draws for each do not make so many.
    """
    found: dict[Example, None] = {}
    for _ in range(50 * count):
        found[draw()] = None
        if len(found) == count:
            return list(found)
    raise SpecError(
        f"{count:,} different examples are wanted (examples and held_out together), and {50 * count:,} draws made "
        f"{len(found):,}. Ask for fewer, or raise {what}."
    )


def padded(rows: list[tuple[int, ...]], length: int, fill: int) -> Tensor:
    """Integers [rows, length] of rows of at most that length, filled up at the end."""
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], dtype=torch.long)


def divided(inputs: Tensor, targets: Tensor, parameters: GeneratedParameters) -> tuple[Batches, Batch]:
    """Training data and held-out examples: the first `examples` of the rows, and the rest."""
    n = parameters.examples
    return Batches(inputs[:n], targets[:n], parameters.batch_size, parameters.seed), (inputs[n:], targets[n:])


def generator(parameters: GeneratedParameters) -> torch.Generator:
    """A random state for the examples, which the seed alone decides."""
    return torch.Generator().manual_seed(parameters.seed)
