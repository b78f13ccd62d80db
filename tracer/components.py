"""Which component recorded each operator: modules without touching their code, regions and operands named by hand.

Autograd numbers the operators that it records. A *mark* notes the number at which the innermost component changes, so
the component of any operator is that of the last mark before its number. Regions leave marks always (a loss may be traced
after it was recorded); modules only while `watch_modules` is in force.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as module_hooks

from gradtrace.tracer.component_names import ROOT, join
from gradtrace.tracer.errors import ComponentError

_KEPT = 1 << 17
"""Marks kept for a loss that is traced after it was recorded."""


class Place(NamedTuple):
    """Where an operator was recorded: the innermost component and which of its calls (0, 1, …) it was."""

    path: str | None
    call: int = 0


OUTSIDE = Place(None)


class _State(threading.local):
    def __init__(self) -> None:
        self.stack: list[Place] = [OUTSIDE]
        self.numbers: deque[int] = deque(maxlen=_KEPT)
        self.places: deque[Place] = deque(maxlen=_KEPT)
        self.calls: Counter[str] = Counter()
        self.roles: dict[str, str | None] = {}
        self.watched: list[dict[int, str]] = []

    def clear(self) -> None:
        """Forget all marks. The lists stay the same ones."""
        self.numbers.clear()
        self.places.clear()
        self.calls.clear()

    def enter(self, path: str) -> None:
        place = Place(path, self.calls[path])
        self.calls[path] += 1
        self.stack.append(place)
        self.mark()

    def leave(self) -> None:
        self.stack.pop()
        self.mark()

    def mark(self) -> None:
        number = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]  # not exported, but the only way
        self.numbers.append(number)
        self.places.append(self.stack[-1])


_state = _State()


def check_name(name: object) -> str:
    """A component name as users may give it: non-empty parts joined by dots, without blanks, brackets or plus signs."""
    if not isinstance(name, str):
        raise ComponentError(f"A component name is a string such as 'carry', not {name!r}.")
    if not name or any(not part or set(part) & set(" \t\n()+<>*") for part in name.split(".")):
        raise ComponentError(
            f"{name!r} is no component name. Use words joined by dots ('carry', 'read.head0'), without blanks and ()+<>*."
        )
    return name


@contextmanager
def component(name: str, role: str | None = None) -> Iterator[None]:
    """Name a region of functional code: operators recorded inside belong to the component `name`.

    Inside a module the region is a part of it: in module `layers.0`, `component("carry")` is `layers.0.carry`; regions
    nest alike. `role` says what the region is for ("skip", "gate"), so that questions can group components by it.

    >>> with component("carry", role="skip"):
    ...     y = (1 - t) * x
    """
    check_name(name)
    if role is not None and not isinstance(role, str):
        raise ComponentError(f"A role is a string such as 'skip', not {role!r}.")
    outer = _state.stack[-1].path
    path = join(outer, name)
    known = _state.roles.get(path)
    if role is not None and known is not None and known != role:
        raise ComponentError(f"Component {path!r} has the role {known!r} already; it cannot be {role!r} as well.")
    _state.roles[path] = role or known
    depth = len(_state.stack)
    _state.enter(path)
    try:
        yield
    finally:
        del _state.stack[depth:]
        _state.mark()


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


def tap(x: torch.Tensor, name: str, role: str | None = None) -> torch.Tensor:
    """`x`, passed through an identity operator that belongs to the component `name`: names one operand.

    >>> y = tap(x, "skip") + f(x)
    """
    with component(name, role):
        return _Tap.apply(x)


@dataclass(frozen=True)
class Recorded:
    """The marks of one recording."""

    numbers: list[int]
    places: list[Place]
    roles: dict[str, str | None]

    def all_places(self, sequences: list[int]) -> tuple[Place, ...]:
        """Where the operators with these sequence numbers were recorded."""
        found = np.searchsorted(np.array(self.numbers, np.int64), np.array(sequences, np.int64), side="right") - 1
        places = self.places
        return tuple(places[at] if at >= 0 else OUTSIDE for at in found.tolist())

    def place(self, sequence: int) -> Place:
        """Where the operator with this sequence number was recorded."""
        at = bisect_right(self.numbers, sequence) - 1
        return self.places[at] if at >= 0 else OUTSIDE


def recorded() -> Recorded:
    """All marks of this thread that are still kept."""
    return Recorded(list(_state.numbers), list(_state.places), dict(_state.roles))


@contextmanager
def watch_modules(model: nn.Module | None) -> Iterator[None]:
    """Let every call of a module of `model` leave marks while the block runs; marks of an outer block are set aside."""
    state = _state
    depth = len(state.stack)
    aside = (list(state.numbers), list(state.places), dict(state.calls)) if state.watched else None
    state.clear()
    state.mark()
    names = module_names(model)
    state.watched.append(names)
    # Global hooks: two registrations in all instead of two a module, and user modules stay untouched.
    before, after = _marking(names)
    handles = (
        module_hooks.register_module_forward_pre_hook(before),
        module_hooks.register_module_forward_hook(after),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        state.watched.pop()
        del state.stack[depth:]
        state.mark()
        if aside is not None:
            state.clear()
            state.numbers.extend(aside[0])
            state.places.extend(aside[1])
            state.calls.update(aside[2])


def _marking(names: dict[int, str]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Hooks that leave marks of the modules named, in this thread, while no inner block watches.

    They run twice for every module: what they need is looked up here, once.
    """
    watched, stack, calls = _state.watched, _state.stack, _state.calls
    number, place = _state.numbers.append, _state.places.append
    sequence: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]  # see `_State.mark`
    path_of, thread, this_thread = names.get, threading.get_ident(), threading.get_ident

    def before(module: nn.Module, args: Any) -> None:
        path = path_of(id(module))
        if path is not None and this_thread() == thread and watched[-1] is names:
            call = calls[path]
            calls[path] = call + 1
            here = Place(path, call)
            stack.append(here)
            number(sequence())
            place(here)

    def after(module: nn.Module, args: Any, output: Any) -> None:
        if id(module) in names and this_thread() == thread and watched[-1] is names:
            stack.pop()
            number(sequence())
            place(stack[-1])

    return before, after


def module_names(model: nn.Module | None) -> dict[int, str]:
    """Path of every module of the model by identity; the model itself is `"<model>"`, a shared module its first name."""
    names: dict[int, str] = {}
    rest = [] if model is None else [(model, "")]
    while rest:  # `named_modules` without its generators, which cost as much as the forward pass of small modules
        module, name = rest.pop()
        if id(module) not in names:
            names[id(module)] = name or ROOT
            inside = [(m, f"{name}.{n}" if name else n) for n, m in module._modules.items() if m is not None]
            rest += reversed(inside)
    return names
