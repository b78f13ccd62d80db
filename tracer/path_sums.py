"""Sums over all paths from every scalar to the loss: their absolute weights, and what their entropy is made of.

Du et al. 2023 (ACL, "Generalizing Backpropagation for Gradient-Based Interpretability") read backpropagation as a recursion
that can be run over other semirings. Here, from the loss down, with |w| on the edges:

    t_v = Σ_u |w(u,v)|·t_u                              the weights of all paths of v, summed (their "abs-sum")
    a_v = Σ_u |w(u,v)|·a_u − |w(u,v)|·log|w(u,v)|·t_u   −Σ Π·log Π over the paths, Π being a path's weight

so that the entropy of the distribution p(path) = Π/t_v is log t_v + a_v/t_v. Every tensor has a binary exponent of its own,
which keeps long products from underflowing; the entropy does not depend on it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gradtrace.tracer.capture import Captured
from gradtrace.tracer.kernels import layout as L
from gradtrace.tracer.solve import addresses

_CHUNK = 1 << 24
"""Entries of a Jacobian that are written out at a time."""
_NOTHING = -(2**40)
"""Exponent of a tensor none of whose scalars has a path to the loss."""
Planes = list[torch.Tensor]


class PathSums:
    """The sums of one captured step.

    Attributes:
        total: per tensor of the plan, float64 of its scalars: t divided by 2**exponent.
        spread: likewise a, for that scaled t; empty where no entropy was asked for.
        exponent: int64 [tensors].
        non_finite: whether a weight was NaN or ±inf (it counts as 0).
    """

    def __init__(self, captured: Captured, entropy: bool) -> None:
        self.arrays = captured.plan.arrays._replace(uses=captured.uses)
        self.non_finite = False
        self._entropy = entropy
        self._keep: list[Any] = [captured.keep]
        addresses(captured.tensors, captured.plan.strides, torch.float64, self._keep)
        found = iter(self._keep[-1])  # on the CPU; none stands there for what no gradient came to
        self._tensors = [None if t is None else next(found).detach() for t in captured.tensors]
        self._weights: dict[tuple[Any, ...], Planes] = {}
        count = len(self.arrays.base)
        self.exponent = np.full(count, _NOTHING, np.int64)
        self._reference = np.zeros(count, np.int64)
        self.total: Planes = [torch.empty(0)] * count
        self.spread: Planes = [torch.empty(0)] * count if entropy else []
        for tensor in range(count - 1, -1, -1):
            self._solve(tensor)

    def crossing(self, inside: Sequence[torch.Tensor | None]) -> Planes:
        """Per tensor of the plan, the part of `total` whose paths cross one of the scalars marked as inside.

        Args:
            inside: per tensor, a mask over its scalars, or None for none of them. A path is counted from its second scalar on.
        """
        count = len(self.arrays.base)
        part: Planes = [torch.empty(0)] * count
        seen: Planes = [torch.empty(0)] * count
        for tensor in range(count - 1, -1, -1):
            (found,) = self._pull(tensor, [seen], int(self._reference[tensor]), False)
            if self.exponent[tensor] != _NOTHING:
                found *= math.ldexp(1.0, int(self._reference[tensor] - self.exponent[tensor]))
            part[tensor] = found
            mask = inside[tensor]
            seen[tensor] = part[tensor] if mask is None else torch.where(mask, self.total[tensor], part[tensor])
        return part

    def _solve(self, tensor: int) -> None:
        a = self.arrays
        targets = a.targets[a.use_list[a.use_start[tensor] : a.use_start[tensor + 1]]]
        planes = [self.total, self.spread] if self._entropy else [self.total]
        found = [torch.zeros(int(a.size[tensor]), dtype=torch.float64) for _ in planes]
        reference = 0
        for exponent in np.unique(self.exponent[targets])[::-1].tolist():
            if exponent == _NOTHING:
                break
            reference = exponent
            found = self._pull(tensor, planes, reference, self._entropy)
            if bool(found[0].any()):
                break  # else what has this exponent is read with weight 0: the rest need not be small against it
        self._reference[tensor] = reference
        if tensor == a.loss_tensor:
            found[0][a.loss - a.base[tensor]] += 1.0
        self.total[tensor] = found[0]
        if self._entropy:
            self.spread[tensor] = found[1]
        top = float(found[0].max()) if found[0].numel() else 0.0
        if top == 0:
            return
        shift = math.frexp(top)[1]
        scale = math.ldexp(1.0, -shift)
        if self._entropy:
            # a = −Σ Π·log Π, and each Π is scaled too
            self.spread[tensor] = scale * (found[1] + shift * math.log(2.0) * found[0])
        self.total[tensor] = scale * found[0]
        self.exponent[tensor] = reference + shift

    def _pull(self, tensor: int, planes: list[Planes], exponent: int, entropy: bool) -> Planes:
        """What a tensor's consumers hand down, in units of 2**exponent: one sum for each plane."""
        a = self.arrays
        size, base = int(a.size[tensor]), int(a.base[tensor])
        out = [torch.zeros(size, dtype=torch.float64) for _ in planes]
        for use in a.use_list[a.use_start[tensor] : a.use_start[tensor + 1]].tolist():
            target = int(a.targets[use])
            shift = int(self.exponent[target]) - exponent
            if shift > 0:
                continue  # nothing comes from there, see `_solve`
            constant = abs(float(a.constants[use]))
            row = _narrowed(a.uses[use])
            constant = math.ldexp(constant, max(shift, -(2**20)))
            if row is None or constant == 0:
                continue
            parts = self._products(row, [p[target] for p in planes], entropy)
            if entropy:
                parts[1] -= math.log(constant) * parts[0]
            for sums, part in zip(out, parts, strict=True):
                _add(sums, base, row, part.mul_(constant))
        return out

    def _products(self, row: dict[int, int], values: Planes, entropy: bool) -> Planes:
        """Σ|w|·value for every position of a use, and with `entropy` Σ|w|·value[1] − |w|·log|w|·value[0] for the second."""
        kind = row[L.KIND]
        if kind == L.PAIRS:
            return self._pairs(row, values, entropy)
        if kind == L.MM:
            return self._contraction(row, values, entropy)
        return self._rows(row, values, entropy)

    def _pairs(self, row: dict[int, int], values: Planes, entropy: bool) -> Planes:
        dims = (row[L.D0], row[L.D1], row[L.D2])
        first, count = row[_FIRST], math.prod(dims)
        if row[L.OUT_TABLE]:
            outs = _table(row[L.OUT_TABLE], first, count)
            read = [v[outs].view(dims) for v in values]
        else:
            strides = (row[L.OUT_S0], row[L.OUT_S1], row[L.OUT_S2])
            read = [v.as_strided(dims, strides, row[L.OUT_START]).clone() for v in values]
        if row[L.WEIGHTS] < 0:
            return read
        weight, logs = (w.reshape(-1)[first : first + count].view(dims) for w in self._weight(row[L.WEIGHTS], entropy))
        parts = [v * weight for v in read]
        if entropy:
            parts[1] -= read[0] * logs
        return parts

    def _contraction(self, row: dict[int, int], values: Planes, entropy: bool) -> Planes:
        a_dims = (row[L.D0], row[L.D1], row[L.K])
        b_dims = (row[L.D0], row[L.K], row[L.D2])
        a_strides, b_strides = (row[L.A_S0], row[L.A_SM], row[L.A_SK]), (row[L.B_S0], row[L.B_SK], row[L.B_SN])
        if row[L.A] < 0:
            weight, logs = (w.as_strided(b_dims, b_strides, row[_B_START]) for w in self._weight(row[L.B], entropy))
            read = [v.as_strided(a_dims, a_strides, row[_A_START]) for v in values]
            parts = [torch.bmm(v, weight) for v in read]
            if entropy:
                parts[1] -= torch.bmm(read[0], logs)
        else:
            weight, logs = (w.as_strided(a_dims, a_strides, row[_A_START]) for w in self._weight(row[L.A], entropy))
            read = [v.as_strided(b_dims, b_strides, row[_B_START]) for v in values]
            parts = [torch.bmm(weight, v) for v in read]
            if entropy:
                parts[1] -= torch.bmm(logs, read[0])
        return parts

    def _rows(self, row: dict[int, int], values: Planes, entropy: bool) -> Planes:
        outer, d, inner = row[L.D0], row[L.D1], row[L.D2]
        at = slice(row[_FIRST] // (d * inner), row[_FIRST] // (d * inner) + outer)

        def by_row(flat: torch.Tensor) -> torch.Tensor:
            return flat.reshape(-1, d, inner)[at].transpose(1, 2).reshape(-1, d)

        x = by_row(self._tensor(row[L.ROW]))
        if row[L.KIND] == L.NORM:
            group, i = torch.arange(at.start, at.stop).view(-1, 1), torch.arange(d)
            outs = group * row[L.U0] + (i // row[L.K]) * row[L.U1] + (i % row[L.K]) * row[L.U2]
            slope = self._tensor(row[L.ROW_SCALE]).reshape(-1)[at].view(-1, 1).expand(-1, d) / d
            if row[L.ROW_WEIGHT] >= 0:
                slope = slope * self._tensor(row[L.ROW_WEIGHT]).reshape(-1, d)[group.view(-1) % row[L.WEIGHT_ROWS]]
            found = self._normalised(x, slope, [v[outs] for v in values], entropy)
        else:
            found = self._softmax(x, row[L.KIND] == L.SOFTMAX, [by_row(v) for v in values], entropy)
        return [v.view(outer, inner, d).transpose(1, 2) for v in found]

    def _softmax(self, x: torch.Tensor, plain: bool, read: Planes, entropy: bool) -> Planes:
        """Off the diagonal |w_ij| is factor_i·shared_j, so sums over a row without one place are enough."""
        shared = self._finite(x.abs() if plain else x.exp())
        factor = shared if plain else torch.ones_like(shared)
        own = factor * (1 - shared).abs()
        total = _others(factor * read[0])
        parts = [shared * total + own * read[0]]
        for value in read[1:]:
            parts.append(shared * _others(factor * value) + own * value)
        if entropy:
            logs = torch.xlogy(factor, factor) * read[0]
            parts[1] -= shared * _others(logs) + torch.xlogy(shared, shared) * total + torch.xlogy(own, own) * read[0]
        return parts

    def _normalised(self, x: torch.Tensor, slope: torch.Tensor, read: Planes, entropy: bool) -> Planes:
        """Dense: [rows, outputs, inputs] of the Jacobian are written out, a part at a time."""
        rows, d = x.shape
        out = [torch.empty_like(v) for v in read]
        wide = max(1, min(d, _CHUNK // d))
        step = max(1, _CHUNK // (d * wide))
        for first in range(0, rows, step):
            some = slice(first, min(first + step, rows))
            for start in range(0, d, wide):
                these = slice(start, min(start + wide, d))
                j = -1 - x[some].unsqueeze(2) * x[some, these].unsqueeze(1)
                j.diagonal(-start, 1, 2)[:] += d
                j = self._finite((j * slope[some].unsqueeze(2)).abs_())
                parts = [torch.bmm(v[some].unsqueeze(1), j) for v in read]
                if entropy:
                    parts[1] -= torch.bmm(read[0][some].unsqueeze(1), torch.xlogy(j, j))
                for whole, part in zip(out, parts, strict=True):
                    whole[some, these] = part.squeeze(1)
        return out

    def _tensor(self, slot: int) -> torch.Tensor:
        found = self._tensors[slot]
        assert found is not None  # what a record names was captured
        return found

    def _weight(self, slot: int, entropy: bool) -> Planes:
        """|w| of a captured tensor and |w|·log|w|, in its own memory layout; worked out once for all who read the same."""
        tensor = self._tensor(slot)
        key = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if key not in self._weights:
            flat = torch.as_strided(tensor, (_span(tensor),), (1,))
            weight = self._finite(flat.abs())
            self._weights[key] = [weight, torch.xlogy(weight, weight) if self._entropy else weight]
        return self._weights[key]

    def _finite(self, weight: torch.Tensor) -> torch.Tensor:
        if not bool(torch.isfinite(weight.sum())):
            self.non_finite |= not bool(torch.isfinite(weight).all())
            weight = torch.where(torch.isfinite(weight), weight, 0.0)
        return weight


_FIRST, _A_START, _B_START = -1, -2, -3
"""Further columns of a narrowed record: its first position, and where its factors begin."""


def _narrowed(record: np.ndarray) -> dict[int, int] | None:
    """A record without the leading rows of positions that cannot belong to its source, or None if none can."""
    row: dict[int, int] = dict(enumerate(record.tolist()))
    lo, hi = row[L.LO], row[L.HI]
    row[_FIRST] = row[_A_START] = row[_B_START] = 0
    if hi <= lo or row[L.D0] * row[L.D1] * row[L.D2] == 0 or (row[L.KIND] == L.MM and row[L.K] == 0):
        return None
    plane = row[L.D1] * row[L.D2]
    at, end = lo // plane, (hi - 1) // plane + 1
    row[_FIRST] = at * plane
    row[L.D0] = end - at
    row[L.ID_START] += at * row[L.ID_S0]
    row[L.OUT_START] += at * row[L.OUT_S0]
    row[_A_START], row[_B_START] = at * row[L.A_S0], at * row[L.B_S0]
    if row[L.D0] == 1 and row[L.KIND] in (L.PAIRS, L.MM):
        at, end = (lo - row[_FIRST]) // row[L.D2], (hi - 1 - row[_FIRST]) // row[L.D2] + 1
        row[_FIRST] += at * row[L.D2]
        row[L.D1] = end - at
        row[L.ID_START] += at * row[L.ID_S1]
        row[L.OUT_START] += at * row[L.OUT_S1]
        row[_A_START] += at * row[L.A_SM]
    return row


def _add(sums: torch.Tensor, base: int, row: dict[int, int], part: torch.Tensor) -> None:
    """Add one value a position to the scalars that stand there; what belongs to other tensors is left out."""
    dims = (row[L.D0], row[L.D1], row[L.D2])
    if row[L.ID_TABLE]:
        ids = _table(row[L.ID_TABLE], row[_FIRST], math.prod(dims))
    else:
        strides = (row[L.ID_S0], row[L.ID_S1], row[L.ID_S2])
        for dim in range(3):
            if strides[dim] == 0 and dims[dim] > 1:  # copies of one scalar
                part = part.sum(dim, keepdim=True)
        start, end = row[L.ID_START] - base, row[L.ID_START] - base
        end += sum((n - 1) * s for n, s in zip(part.shape, strides, strict=True))
        if start >= 0 and end < sums.numel() and _apart(part.shape, strides):
            sums.as_strided(part.shape, strides, start).add_(part)
            return
        ids = torch.tensor(row[L.ID_START])
        for dim, (n, s) in enumerate(zip(part.shape, strides, strict=True)):
            ids = ids + (torch.arange(n) * s).view([-1 if d == dim else 1 for d in range(3)])
        ids = ids.reshape(-1)
    local = ids - base
    mine = (local >= 0) & (local < sums.numel())
    sums.index_add_(0, local[mine], part.reshape(-1)[mine])


def _apart(dims: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether no two positions of a strided map stand for one scalar."""
    reach = 0
    for s, n in sorted((s, n) for n, s in zip(dims, strides, strict=True) if n > 1):
        if s <= reach:
            return False
        reach += s * (n - 1)
    return True


def _span(tensor: torch.Tensor) -> int:
    """Elements from a tensor's first to its last one in memory."""
    return 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) if tensor.numel() else 0


def _table(address: int, first: int, count: int) -> torch.Tensor:
    """Part of an index table as int64."""
    pointer = ctypes.cast(address + 4 * first, ctypes.POINTER(ctypes.c_int32))
    return torch.from_numpy(np.ctypeslib.as_array(pointer, (count,))).long()


def _others(x: torch.Tensor) -> torch.Tensor:
    """Sum of each row without the place itself; added up from both sides, since a difference would lose what is small."""
    none = x.new_zeros(x.shape[0], 1)
    before = torch.cat([none, x[:, :-1].cumsum(1)], 1)
    after = torch.cat([x[:, 1:].flip(1).cumsum(1).flip(1), none], 1)
    return before + after
