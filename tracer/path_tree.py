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

    def hops(self, row: int, factor: float) -> Hops:
        """The trace that starts at a row, hop by hop; gradients times a factor."""
        return Hops(self, row, factor)


class Hops:
    """A trace hop by hop, in three arrays that are filled when one of them is first asked for."""

    __slots__ = ("_arrays", "_from")

    def __init__(self, paths: PathTree, row: int, factor: float) -> None:
        self._from = (paths, row, factor)
        self._arrays: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def _filled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        arrays = self._arrays  # two threads may fill them, with the same
        if arrays is None:
            paths, row, factor = self._from
            arrays = self._arrays = tree.hops_from(row, paths.columns, factor)
        return arrays

    def index(self) -> np.ndarray:
        """int64 [hops]: flat indices, in their operators' outputs, of the scalars crossed."""
        return self._filled()[0]

    def weight(self) -> np.ndarray:
        """float64 [hops]: weight of the edge to each scalar."""
        return self._filled()[1]

    def gradient(self) -> np.ndarray:
        """float64 [hops]: gradient of each scalar."""
        return self._filled()[2]
