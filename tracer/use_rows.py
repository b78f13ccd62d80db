"""Uses as rows of numbers that compiled code reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.maps import IndexMap, Positions, fixed_map, joint_maps
from gradtrace.tracer.rules import Use


def encode(use: Use, positions: Positions) -> tuple[np.ndarray, list[torch.Tensor]]:
    """The static columns of a use's record, and the tables that its addresses point into."""
    row = np.zeros(L.WIDTH, np.int64)
    keep: list[torch.Tensor] = []
    row[L.KIND] = use.kind
    for column in (L.VALUES, L.WEIGHTS, L.A, L.B, L.ROW_WEIGHT):
        row[column] = -1
    if use.kind == L.PAIRS:
        if use.probed or use.listed:
            dims, maps = (1, 1, use.ids.numel()), [IndexMap(0, (0, 0, 0), None), IndexMap(0, (0, 0, 0), None)]
        else:
            assert use.outs is not None  # PAIRS rules give both maps
            dims, maps = joint_maps([use.ids, use.outs], positions)
        _write_map(row, keep, maps[1], L.OUT_TABLE, L.OUT_START, (L.OUT_S0, L.OUT_S1, L.OUT_S2))
        source = maps[0]
    else:
        dims = tuple(use.ids.shape)  # type: ignore[assignment]  # rules lay these out in three dimensions
        source = fixed_map(use.ids, positions)
    _write_map(row, keep, source, L.ID_TABLE, L.ID_START, (L.ID_S0, L.ID_S1, L.ID_S2))
    row[L.D0], row[L.D1], row[L.D2] = dims
    row[L.LO], row[L.HI] = 0, use.ids.numel()
    for column, number in use.fields.items():
        row[column] = number
    return row, keep


def _write_map(
    row: np.ndarray, keep: list[torch.Tensor], m: IndexMap, table: int, start: int, strides: Sequence[int]
) -> None:
    if m.table is not None:
        keep.append(m.table)
        row[table] = m.table.data_ptr()
    row[start] = m.start
    for column, stride in zip(strides, m.strides, strict=True):
        row[column] = stride
