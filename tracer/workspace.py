"""Arrays that the passes of every step of one plan use again, so that a step neither allocates nor clears them."""

from __future__ import annotations

import numpy as np

from gradtrace.tracer.kernels.component_sets import COUNT, FULL, new_table
from gradtrace.tracer.kernels.state import Table

_MOST = 1 << 22
"""Sequences (or paths) kept from step to step; beyond, the table starts anew."""


class Known:
    """What traces cross, by number; numbers stay the same from step to step, so what was worked out for one is found again.

    Attributes:
        sequences, paths: tables of `component_sets`: of component sequences and of operator paths.
        crossed: components (and what they are parts of) by sequence.
        routes: by sequence; interned: each route once.
        vertices: operators by path; places: (hop that tells the example, scalars of an example there, time step) by path and
            batch size.
    """

    def __init__(self, capacity: int) -> None:
        self.sequences: Table = new_table(capacity)
        self.paths: Table = new_table(capacity)
        self.crossed: dict[int, np.ndarray] = {}
        self.routes: dict[int, tuple[str, ...]] = {}
        self.interned: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.vertices: dict[int, tuple[int, ...]] = {}
        self.places: dict[tuple[int, int | None], tuple[int | None, int, int | None]] = {}

    @property
    def full(self) -> bool:
        """Whether one of the tables overflowed (what was numbered since is void)."""
        return bool(self.sequences[4][FULL] or self.paths[4][FULL])


class Workspace:
    """One array element a scalar, in memory that is only taken where it is written (see `kernels.state`)."""

    def __init__(self, scalars: int, leaf_scalars: int) -> None:
        self.scalars = scalars
        self.slot = np.full(scalars, -1, np.int32)
        (
            self.onward_id,
            self.via_use,
            self.ident,
            self.onward,
            self.traffic,
            self.link,
            self.into,
            self.path,
            self.entry_at,
        ) = (np.empty(scalars, np.int32) for _ in range(9))
        self.entry_slot, self.entry_traffic = (np.empty(leaf_scalars, np.int32) for _ in range(2))
        self.mass, self.entry_mass = np.empty(scalars), np.empty(leaf_scalars)
        self._best: dict[np.dtype, np.ndarray] = {}
        self.capacity = 1 << 10
        self.tree_room = 1 << 9
        self.known = Known(1 << 10)

    def best(self, dtype: np.dtype) -> np.ndarray:
        """Room for the value of each scalar's best candidate."""
        if dtype not in self._best:
            self._best[dtype] = np.empty(self.scalars, dtype)
        return self._best[dtype]

    def make_room(self) -> None:
        """Empty tables, four times as large."""
        self.known = Known(4 * self.known.sequences[2].shape[0])

    def tidy(self) -> None:
        """Start the tables anew where months of training have filled them with what no longer occurs."""
        if max(int(self.known.sequences[4][COUNT]), int(self.known.paths[4][COUNT])) > _MOST:
            self.known = Known(self.known.sequences[2].shape[0])
