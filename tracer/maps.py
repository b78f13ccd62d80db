"""Index maps as a use record holds them: strided over three collapsed dimensions where possible, else tables."""

from __future__ import annotations

from dataclasses import dataclass

import torch


class Positions:
    """Numbers 0..n-1 as views of one shared int32 tensor; a map that is still such a view needs no memory of its own."""

    def __init__(self, count: int) -> None:
        self._all = torch.arange(max(count, 1), dtype=torch.int32)
        self._storage = self._all.untyped_storage().data_ptr()

    def range(self, start: int, count: int) -> torch.Tensor:
        """start..start+count-1."""
        return self._all[start : start + count]

    def __call__(self, count: int) -> torch.Tensor:
        """0..count-1."""
        return self._all[:count]

    def is_view(self, ids: torch.Tensor) -> bool:
        """Whether `ids` needs no table: an id is its own offset in the shared storage."""
        return ids.untyped_storage().data_ptr() == self._storage


@dataclass(slots=True)
class IndexMap:
    """position (i0, i1, i2) → start + i0·s0 + i1·s1 + i2·s2, or table[position].

    `table` is a contiguous int32 tensor over all positions, or None.
    """

    start: int
    strides: tuple[int, int, int]
    table: torch.Tensor | None


def collapse(shape: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[list[int], list[list[int]]]:
    """Merge neighbouring dimensions that every one of the stride tuples walks through evenly; drop those of size 1."""
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for dim, size in enumerate(shape):
        if size == 1:
            continue
        steps = [s[dim] for s in strides]
        if sizes and all(m[-1] == step * size for m, step in zip(merged, steps, strict=True)):
            sizes[-1] *= size
            for m, step in zip(merged, steps, strict=True):
                m[-1] = step
        else:
            sizes.append(size)
            for m, step in zip(merged, steps, strict=True):
                m.append(step)
    return sizes, merged


def joint_maps(maps: list[torch.Tensor], positions: Positions) -> tuple[tuple[int, int, int], list[IndexMap]]:
    """Index maps of equal shape over common dimensions (D0, D1, D2)."""
    shape = tuple(maps[0].shape)
    views = [positions.is_view(m) for m in maps]
    for strided in (views, [v and at > 0 for at, v in enumerate(views)], [False] * len(maps)):
        chosen = [m for m, keep in zip(maps, strided, strict=True) if keep]
        sizes, steps = collapse(shape, [tuple(m.stride()) for m in chosen])
        if not chosen:
            sizes, steps = [maps[0].numel()], []
        if len(sizes) > 3:
            continue
        pad = 3 - len(sizes)
        taken = iter(steps)
        result = []
        for m, keep in zip(maps, strided, strict=True):
            if keep:
                s = next(taken)
                result.append(IndexMap(m.storage_offset(), (*([0] * pad), *s), None))  # type: ignore[arg-type]
            else:
                result.append(IndexMap(0, (0, 0, 0), m.to(torch.int32).contiguous().reshape(-1)))
        dims = (*([1] * pad), *sizes)
        return dims, result  # type: ignore[return-value]
    raise AssertionError("tables for every map always fit")


def fixed_map(ids: torch.Tensor, positions: Positions) -> IndexMap:
    """Index map of a three-dimensional id tensor, dimensions kept as they are."""
    if positions.is_view(ids):
        return IndexMap(ids.storage_offset(), tuple(ids.stride()), None)  # type: ignore[arg-type]
    return IndexMap(0, (0, 0, 0), ids.to(torch.int32).contiguous().reshape(-1))


def sources_of(ids: torch.Tensor, bases: torch.Tensor, positions: Positions) -> list[tuple[int, int, int]]:
    """Tensors that the ids belong to, each with the range [lo, hi) of flattened positions that can be its own.

    Args:
        ids: int32, any shape; -1 are constants.
        bases: int64 ascending first ids of the tensors.
        positions: shared numbers.
    """
    if ids.numel() == 0:
        return []
    if positions.is_view(ids):
        owner = int(torch.searchsorted(bases, ids.storage_offset(), right=True)) - 1
        return [(owner, 0, ids.numel())]
    flat = ids.reshape(-1).long()
    owners = torch.searchsorted(bases, flat, right=True) - 1
    found = []
    for owner in owners[flat >= 0].unique().tolist():
        at = (owners == owner).nonzero()
        mine = at[flat[at[:, 0]] >= 0]
        found.append((owner, int(mine[0]), int(mine[-1]) + 1))
    return found
