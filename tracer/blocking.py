"""Blocking: the gradient through a component is cut, as if the weights of the edges into its scalars were 0.

The forward pass and its values stay as they are. Of an operator that belongs to the component as a whole, a hook replaces what
it hands down by zeros. Where only some of its scalars do (one gate of the four that one `Addmm` makes), what comes in for
these is replaced by zeros, which comes to the same, since a backward is linear in it.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gradtrace.tracer.component_names import ancestors
from gradtrace.tracer.components import Recorded, recorded, watch_modules
from gradtrace.tracer.errors import ComponentError, TraceError
from gradtrace.tracer.plan import Options, Plan
from gradtrace.tracer.plans import Plans, check_model, explain, find_plan
from gradtrace.tracer.recording import traceable_kernels
from gradtrace.tracer.rules.inplace import COPY_SLICES
from gradtrace.tracer.walk import Skim, check_loss

Handles = list[Any]
Gradients = tuple[torch.Tensor | None, ...]


@contextmanager
def blocked(model: nn.Module | None, *names: str) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
    """Block the gradient through components: record the loss inside, pass it through what this yields, and go backward.

    Every edge into a scalar of the components (or of their parts) counts as if its weight were 0: what reaches the loss only
    through them gets gradient 0, parameters of their own included. Values do not change. Recurrent modules and attention are
    recorded by the decomposed kernels, so that their parts can be told apart.

    Args:
        model: whose modules name components; None where all are named by hand.
        names: component paths, as `Trace.components` lists them ("lstm.l0.carry").

    Yields:
        A function of the loss that sets the hooks, which stay for as long as its graph does, and returns the same loss.

    Raises:
        ComponentError: the loss has no such component, or no operator of it.

    >>> with blocked(model, "lstm.l0.carry") as block:
    ...     block(loss_fn(model(x), y)).backward()
    """
    model = check_model(model)
    check_blocked(names)
    plans = Plans()

    def block(loss: torch.Tensor) -> torch.Tensor:
        check_loss(loss)
        install(*find_plan(loss, recorded(), model, plans, Options()), names)
        return loss

    with traceable_kernels(), watch_modules(model):
        yield block


@contextmanager
def blocking(
    loss: torch.Tensor,
    marks: Recorded,
    model: nn.Module | None,
    plans: Plans,
    options: Options,
    names: Sequence[str],
) -> Iterator[None]:
    """While this is in force, no gradient passes through these components in a backward of the loss."""
    if not names:
        yield
        return
    try:
        handles = install(*find_plan(loss, marks, model, plans, options), names)
    except RuntimeError as error:
        raise explain(error) from error
    try:
        yield
    finally:
        remove(handles)


def check_blocked_modes(names: Sequence[str], modes: Sequence[str]) -> None:
    """Refuse to trace blocked components in a mode that does not look at gradients.

    Raises:
        ComponentError: `names` are no component names.
        TraceError: a mode other than greedy.
    """
    if not names:
        return
    check_blocked(names)
    other = [mode for mode in modes if mode != "greedy"]
    if other:
        raise TraceError(
            f"With blocked components only greedy traces are defined, not {other[0]!r}: it follows weights, which blocking "
            "leaves as they are. Say mode='greedy', or block nothing."
        )


def check_blocked(names: Sequence[str]) -> None:
    """Refuse what is no list of component names.

    Raises:
        ComponentError: it is none, or it is empty.
    """
    if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
        raise ComponentError(f"Name the components to block, each as a string ('lstm.l0.carry'), not {names!r}.")


def install(plan: Plan, skimmed: Skim, names: Sequence[str]) -> Handles:
    """Hook the operators of these components, before the backward; `remove` takes the hooks off.

    Raises:
        ComponentError: there is no such component, or no operator of it.
    """
    parts = blocked_blocks(plan, names)
    by_node: dict[int, dict[int, int]] = {}
    for tensor in parts:
        node, output = plan.tensors[tensor]
        by_node.setdefault(node, {})[output] = tensor
    made = Counter(node for node, _ in plan.tensors[plan.arrays.leaves :])
    handles: Handles = []
    for node, outputs in by_node.items():
        function = skimmed.functions[plan.order[node]]
        whole = len(outputs) == made[node] and all(
            len(parts[t]) == len(plan.layout.parts[t][0]) and not _is_write(plan, t) for t in outputs.values()
        )
        if whole:
            handles.append(function.register_hook(_hand_down_zeros))
        else:
            handles.append(function.register_prehook(_Mask(plan, outputs, parts)))
    return handles


def remove(handles: Handles) -> None:
    """Take hooks off."""
    for handle in handles:
        handle.remove()
    handles.clear()


def blocked_blocks(plan: Plan, names: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Tensor of the plan → which of its blocks (see `Layout.parts`) belong to one of these components.

    Raises:
        ComponentError: there is no such component, or no operator of it.
    """
    paths, leaves = plan.layout.paths, plan.arrays.leaves
    wanted = set(names)
    found: dict[int, tuple[int, ...]] = {}
    met: set[str] = set()
    for tensor in range(leaves, len(plan.tensors)):
        blocks = []
        for at, number in enumerate(plan.layout.parts[tensor][0]):
            line = set(ancestors(paths[number])) if number >= 0 else set()
            met |= line
            if line & wanted:
                blocks.append(at)
        if blocks:
            found[tensor] = tuple(blocks)
    for name in names:
        if name not in met:
            raise ComponentError(_unknown(name, met, set(paths)))
    return found


def masked(gradient: torch.Tensor, plan: Plan, tensor: int, blocks: Sequence[int]) -> torch.Tensor:
    """A gradient of a plan's tensor with zeros for the scalars of these blocks."""
    numbers, inner = plan.layout.parts[tensor]
    if _is_write(plan, tensor):
        return gradient.masked_fill(_own(plan, tensor).to(gradient.device), 0.0)
    if len(blocks) == len(numbers):
        return torch.zeros_like(gradient)
    changed = gradient.clone()
    for at in blocks:
        changed[..., at * inner : (at + 1) * inner] = 0.0
    return changed


class _Mask:
    """A hook that replaces what comes in for the blocked scalars of an operator by zeros."""

    def __init__(self, plan: Plan, outputs: dict[int, int], parts: dict[int, tuple[int, ...]]) -> None:
        self._plan, self._outputs, self._parts = plan, outputs, parts

    def __call__(self, gradients: Gradients) -> Gradients:
        return tuple(
            g if g is None or at not in self._outputs else self._masked(g, self._outputs[at])
            for at, g in enumerate(gradients)
        )

    def _masked(self, gradient: torch.Tensor, tensor: int) -> torch.Tensor:
        return masked(gradient, self._plan, tensor, self._parts[tensor])


def _hand_down_zeros(handed: Gradients, incoming: Gradients) -> Gradients:
    return tuple(None if g is None else torch.zeros_like(g) for g in handed)


def _is_write(plan: Plan, tensor: int) -> bool:
    return plan.graph.vertices[plan.layout.vertex_of_tensor[tensor]].op == COPY_SLICES


def _own(plan: Plan, tensor: int) -> torch.Tensor:
    """Which elements of what an in-place write returns are scalars of its own: those of the part that it wrote."""
    ids = plan.ids[plan.tensors[tensor]]
    base = int(plan.arrays.base[tensor])
    return (ids >= base) & (ids < base + int(plan.arrays.size[tensor]))


def _unknown(name: str, met: set[str], paths: set[str]) -> str:
    listed = ", ".join(sorted(met)) or "none"
    if name in paths:
        return (
            f"No operator of this loss belongs to the component {name!r}, so no gradient passes through it: there is nothing "
            f"to block. (Embeddings only copy rows.) To keep its parameters as they are, freeze them. Components with "
            f"operators: {listed}."
        )
    close = difflib.get_close_matches(name, met, n=2, cutoff=0.6)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"This loss has no component {name!r}. {hint}Components with operators: {listed}."
