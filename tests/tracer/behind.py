"""What autograd recorded behind some outputs."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def behind(outputs: Iterable[object]) -> set[str]:
    """Names of the autograd nodes (`"MulBackward0"`) behind those of `outputs` that are tensors."""
    left = [out.grad_fn for out in outputs if isinstance(out, Tensor)]
    seen: set[object] = set()
    names: set[str] = set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name())
            left.extend(before for before, _ in node.next_functions)
    return names
