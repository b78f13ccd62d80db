"""From the sums over all paths of a step to the rows of `spreadtrace`, and the numbers of single scalars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from gradtrace.tracer.capture import Captured
from gradtrace.tracer.path_sums import PathSums
from gradtrace.tracer.plan import Plan
from gradtrace.tracer.spreadtrace import ComponentSpread, ParameterSpread


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The paths of every scalar of one tensor; arrays are float64 in its shape.

    Attributes:
        gradient: signed gradient.
        abs_sum: sum of the weights of all paths to the loss; it may underflow to 0 where `coherence` and `entropy` do not.
        coherence: |gradient| / abs_sum, in [0, 1]; NaN where no path leads to the loss.
        entropy: entropy of the distribution over these paths, in nats; NaN where there are none. None in mode "abs-sum".
    """

    gradient: np.ndarray
    abs_sum: np.ndarray
    coherence: np.ndarray
    entropy: np.ndarray | None


@dataclass(frozen=True, slots=True)
class _Group:
    """Paths of some scalars together: Σt and Σa in units of 2**exponent, Σ|gradient|."""

    total: float
    spread: float
    exponent: int
    mass: float


class Spreads:
    """The path sums of one captured step, with all that rows need of it: tensors may change as soon as this is made.

    Attributes:
        non_finite: whether NaN or ±inf was met.
    """

    def __init__(self, captured: Captured, entropy: bool, unscaled: float) -> None:
        self._captured, self._plan = captured, captured.plan
        self._entropy, self._unscaled = entropy, unscaled
        self._sums = PathSums(captured, entropy)
        self._crossing = [self._crossing_of(c) for c in range(len(self._plan.graph.components))]
        self.non_finite = self._sums.non_finite

    def of(self, ids: np.ndarray) -> Spread:
        """The paths of the scalars with these ids (-1: a constant, or what nothing read), in the same shape."""
        arrays = self._plan.arrays
        total, spread, gradient, exponent = (np.zeros(ids.shape) for _ in range(4))
        owners = np.where(ids < 0, -1, np.searchsorted(arrays.base, ids, side="right") - 1)
        for tensor in np.unique(owners[owners >= 0]).tolist():
            mine = owners == tensor
            places = ids[mine] - arrays.base[tensor]
            total[mine] = self._sums.total[tensor].numpy()[places]
            gradient[mine] = self._gradient(tensor)[places]
            exponent[mine] = self._sums.exponent[tensor]
            if self._entropy:
                spread[mine] = self._sums.spread[tensor].numpy()[places]
        with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
            coherence = np.exp(np.log(np.abs(gradient)) - np.log(total) - exponent * math.log(2.0))
            entropy = np.where(total > 0, np.log(total) + spread / total, np.nan) if self._entropy else None
        whole = np.ldexp(total, np.maximum(exponent, -(2.0**30)).astype(np.int32))
        return Spread(gradient, whole, np.where(total > 0, np.minimum(coherence, 1.0), np.nan), entropy)

    def parameter_rows(self) -> tuple[ParameterSpread, ...]:
        """One row a parameter tensor."""
        rows = []
        for info in self._plan.layout.parameters:
            groups = [] if info.tensor is None else self._groups[info.tensor][1]
            whole = _together(groups)
            live = 0 if info.tensor is None else int((self._sums.total[info.tensor] > 0).sum())
            mass = sum(g.mass for g in groups)
            total = math.ldexp(whole.total, whole.exponent)
            rows.append(ParameterSpread(info.name, info.vertex, info.shape, live, mass, total, *self._numbers(whole)))
        return tuple(rows)

    def component_rows(self) -> tuple[ComponentSpread, ...]:
        """One row a component, descendants included."""
        inside = self._plan.ancestry
        everything = _together([g for _, groups in self._groups.values() for g in groups])
        rows = []
        for at, component in enumerate(self._plan.graph.components):
            owned: list[_Group] = []
            crossed = own = 0.0
            for tensor, (numbers, groups) in self._groups.items():
                parts = self._crossing[at].get(tensor)
                for k, (number, group) in enumerate(zip(numbers, groups, strict=True)):
                    part = 0.0 if parts is None else math.ldexp(float(parts[k]), group.exponent - everything.exponent)
                    crossed += part
                    if at in inside.owners[inside.owner_start[number] : inside.owner_start[number + 1]]:
                        owned.append(group)
                        own += part
            rows.append(
                ComponentSpread(
                    component.path,
                    min(crossed / everything.total, 1.0) if everything.total else 0.0,
                    math.ldexp(crossed, everything.exponent),
                    math.ldexp(own, everything.exponent),
                    math.ldexp(crossed - own, everything.exponent),
                    *self._numbers(_together(owned)),
                )
            )
        return tuple(rows)

    def _numbers(self, group: _Group) -> tuple[float | None, float | None]:
        """(coherence, entropy) of some paths."""
        if not group.total:
            return None, None
        coherence = 0.0
        if group.mass:
            coherence = min(
                math.exp(math.log(group.mass) - math.log(group.total) - group.exponent * math.log(2.0)), 1.0
            )
        return coherence, math.log(group.total) + group.spread / group.total if self._entropy else None

    @cached_property
    def _groups(self) -> dict[int, tuple[list[int], list[_Group]]]:
        """Per learnt tensor, its groups (blocks of one component) by number, and their sums."""
        found = {}
        for tensor in self._plan.learnt.tolist():
            totals = self._by_group(tensor, self._sums.total[tensor].numpy())
            spreads = self._by_group(tensor, self._sums.spread[tensor].numpy()) if self._entropy else totals
            gradient = np.abs(self._gradient(tensor))
            masses = self._by_group(tensor, np.where(np.isfinite(gradient), gradient, 0.0))
            exponent = int(self._sums.exponent[tensor])
            first = int(self._plan.layout.group_start[tensor])
            groups = [
                _Group(float(total), float(spread), exponent, float(mass))
                for total, spread, mass in zip(totals, spreads, masses, strict=True)
            ]
            found[tensor] = (list(range(first, first + len(groups))), groups)
        return found

    def _by_group(self, tensor: int, values: np.ndarray) -> np.ndarray:
        layout = self._plan.layout
        count, inner = int(layout.group_count[tensor]), max(int(layout.group_inner[tensor]), 1)
        return np.bincount((np.arange(values.size) // inner) % count, values, count)

    def _gradient(self, tensor: int) -> np.ndarray:
        held = self._captured.outputs[tensor]
        if held is None:
            return np.zeros(int(self._plan.arrays.size[tensor]))
        return held.detach().to("cpu", torch.float64).reshape(-1).numpy() * self._unscaled

    def _crossing_of(self, component: int) -> dict[int, np.ndarray]:
        """Per learnt tensor, by group, the part of its total whose paths cross a component, in the tensor's unit."""
        inside = _inside(self._plan, component)
        if all(mask is None for mask in inside):
            return {}
        found = self._sums.crossing(inside)
        return {t: self._by_group(t, found[t].numpy()) for t in self._plan.learnt.tolist()}


def _together(groups: Sequence[_Group]) -> _Group:
    """The sums of several groups in the unit of the largest."""
    live = [g for g in groups if g.total > 0]
    top = max((g.exponent for g in live), default=0)
    total = spread = 0.0
    for g in live:
        scale = math.ldexp(1.0, g.exponent - top)
        total += scale * g.total
        spread += scale * (g.spread + (top - g.exponent) * math.log(2.0) * g.total)
    return _Group(total, spread, top, sum(g.mass for g in groups))


def _inside(plan: Plan, component: int) -> list[torch.Tensor | None]:
    """Per tensor, which scalars a component (with its descendants) holds; None for none. Leaves are none."""
    within = plan.ancestry
    members = {
        number
        for number in range(len(plan.layout.paths))
        if component in within.listed[within.start[number + 1] : within.start[number + 2]]
    }
    masks: list[torch.Tensor | None] = []
    arrays = plan.arrays
    for tensor, size in enumerate(arrays.size.tolist()):
        count = int(arrays.comp_count[tensor])
        blocks = torch.tensor([int(n) in members for n in arrays.comp_table[tensor, :count]])
        if tensor < arrays.leaves or not bool(blocks.any()):
            masks.append(None)
        else:
            masks.append(blocks[(torch.arange(size) // max(int(arrays.comp_inner[tensor]), 1)) % count])
    return masks
