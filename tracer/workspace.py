"""Arrays that the passes of every step of one plan use again, so that a step neither allocates nor clears them."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.component_sets import COUNT, FULL, new_table
from gradtrace.tracer.kernels.state import Table

_MOST = 1 << 22
"""Sequences (or paths) kept from step to step; beyond, the table starts anew."""


class Workspace:
    """One array element a scalar, in memory that is only taken where it is written (see `kernels.state.StepArrays`).

    `sequences` and `paths` number what traces cross; numbers stay the same from step to step, so what was worked out for one
    (`routes`, `vertices`, `places`) is found again.
    """

    def __init__(self, scalars: int) -> None:
        self.scalars = scalars
        self.slot = np.full(scalars, -1, np.int32)
        (
            self.onward_id,
            self.via_use,
            self.ident,
            self.onward,
            self.via,
            self.traffic,
            self.link,
            self.into,
            self.path,
        ) = (np.empty(scalars, np.int32) for _ in range(9))
        self.mass = np.empty(scalars)
        self.capacity = 1 << 10
        self.tree_room = 1 << 9
        self.restart(1 << 10)

    def restart(self, capacity: int) -> None:
        """Empty tables of sequences and paths."""
        self.sequences: Table = new_table(capacity)
        self.paths: Table = new_table(capacity)
        self.routes: dict[int, tuple[str, ...]] = {}
        self.interned: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.vertices: dict[int, tuple[int, ...]] = {}
        self.places: dict[tuple[int, int | None], tuple[int | None, int, int | None]] = {}

    @property
    def full(self) -> bool:
        """Whether one of the tables overflowed (what was numbered since is void)."""
        return bool(self.sequences[4][FULL] or self.paths[4][FULL])

    def make_room(self) -> None:
        """Empty tables, four times as large."""
        self.restart(4 * self.sequences[2].shape[0])

    def tidy(self) -> None:
        """Start the tables anew where months of training have filled them with what no longer occurs."""
        if max(int(self.sequences[4][COUNT]), int(self.paths[4][COUNT])) > _MOST:
            self.restart(self.sequences[2].shape[0])
