"""The traces of chosen scalars in full: weights, gradients and margins on the way, kept apart from the step's tensors."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from threading import Lock

import numpy as np

from gradtrace.tracer.kernels import tree


@dataclass
class PathTree:
    """Traces that meet stay together, so they are a tree; one row a scalar (see `kernels.tree` for the columns).

    Attributes:
        base: int64 [T], first id of each tensor.
        room: rows to make room for at first.
        columns: float64 [., WIDTH], of which `count` rows are in use.
    """

    base: np.ndarray
    room: InitVar[int] = 1 << 9
    columns: np.ndarray = field(init=False)
    count: int = 0

    def __post_init__(self, room: int) -> None:
        self.columns = np.zeros((room, tree.WIDTH))
        self._keys = np.full(2 * room, -1, np.int64)
        self._rows = np.zeros(2 * room, np.int32)
        self._lock = Lock()  # a sink's thread may spell rows while the user asks for further traces

    def grow(
        self,
        starts: np.ndarray,
        plan: tuple[object, ...],
        state: tuple[object, ...],
        gradients: np.ndarray,
        like: np.ndarray,
    ) -> None:
        """Have the traces of the scalars `starts` (int64 ids) in the tree."""
        done = 0
        with self._lock:
            while True:
                count, done = tree.grow(
                    starts, done, self.count, plan, state, gradients, self._keys, self._rows, like, self.columns
                )
                self.count = int(count)
                if done == starts.size:
                    return
                self.columns = np.concatenate([self.columns, np.zeros_like(self.columns)])
                self._keys = np.full(2 * self._keys.size, -1, np.int64)
                self._rows = np.zeros(self._keys.size, np.int32)
                tree.refill(self.count, self.columns, self._keys, self._rows)

    def row_of(self, scalar: int) -> int:
        """Row of a scalar that `grow` has met."""
        with self._lock:
            return int(tree.row_of(scalar, self._keys, self._rows))

    def trace(self, row: int) -> np.ndarray:
        """The rows, as a copy, of the trace that starts at a row, itself first."""
        return np.asarray(self.columns[tree.rows_from(row, self.columns)])

    def index(self, row: int) -> tuple[int, ...]:
        """Flat indices, in their operators' outputs, of the scalars on the trace that starts at a row."""
        ids = self.trace(row)[1:, tree.ID].astype(np.int64)
        return tuple((ids - self.base[np.searchsorted(self.base, ids, side="right") - 1]).tolist())

    def weight(self, row: int) -> tuple[float, ...]:
        """Weights of the edges of the trace that starts at a row."""
        return tuple(self.trace(row)[:-1, tree.PARTIAL].tolist())

    def gradient(self, row: int, factor: float) -> tuple[float, ...]:
        """Gradients, times a factor, of the scalars on the trace that starts at a row."""
        return tuple((self.trace(row)[1:, tree.GRADIENT] * factor).tolist())
