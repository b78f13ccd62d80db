"""A recorded loss as a list of autograd nodes, each with its outputs, its operands and a way to call it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.autograd.graph import GradientEdge
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode


def _without_chunks() -> AbstractContextManager[object]:
    return mock.patch.object(functional, "_linear_cross_entropy_chunked_applies", return_value=False, create=True)


@contextmanager
def decomposed_kernels() -> Iterator[None]:
    """Record with kernels that show their operators: no fused recurrences or attention, no loss in chunks."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags() warns about GPUs that are not there
    try:
        with sdpa_kernel(SDPBackend.MATH), _without_chunks():
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@dataclass(eq=False)
class Node:
    """One autograd node.

    Attributes:
        position: place in `Recording.nodes`, operands before users.
        handle: the Python wrapper, kept alive because node identity is wrapper identity.
        name: autograd's name without its `BackwardN` ending.
        shapes: shapes of the outputs.
        operands: per slot the node and output that was read, or None for a constant.
        leaf: the tensor, for an AccumulateGrad node.
        twin: of leaves over one storage, the first that was met; the others are the same scalars.
        gradients: gradient of the loss in each output, as autograd computed it.
    """

    position: int
    handle: Any
    name: str
    shapes: list[tuple[int, ...]]
    dtypes: list[torch.dtype]
    operands: list[tuple[Node, int] | None]
    leaf: torch.Tensor | None = None
    twin: Node | None = None
    gradients: list[torch.Tensor] = field(default_factory=list)

    @cached_property
    def written(self) -> tuple[Node, np.ndarray] | None:
        """Of an in-place write into a part of a tensor: the function that wrote, and the flat places that it wrote to."""
        function = getattr(self.handle, "_wrapped_node", None)
        if function is None:
            return None
        part = _part(self.handle, self.shapes[0], self.dtypes[0])
        metadata = function._input_metadata
        shapes, dtypes = [tuple(m.shape) for m in metadata], [m.dtype for m in metadata]
        base = None if self.operands[0] is None else (Node(-1, None, "part", shapes, dtypes, []), 0)
        operands = [base, *self.operands[1:]]
        return Node(self.position, function, op_name(function.name()), shapes, dtypes, operands), part

    @property
    def sequence(self) -> int:
        """When the forward pass recorded it."""
        return int(self.handle._sequence_nr())

    @property
    def custom(self) -> bool:
        """Whether a Python `autograd.Function` made it."""
        return isinstance(self.handle, torch.autograd.function.BackwardCFunction)

    def call(self, output: int, flat: int) -> list[torch.Tensor | None]:
        """What the node hands to its operands when one scalar of one output has gradient 1 and all others 0."""
        grads = [torch.zeros(s, dtype=d) for s, d in zip(self.shapes, self.dtypes, strict=True)]
        grads[output].view(-1)[flat] = 1.0
        run = self.handle.apply if self.custom else self.handle
        with torch.no_grad():
            got = run(*grads)
        out = [_filled(g) for g in (got if isinstance(got, (tuple, list)) else [got])]
        return out + [None] * (len(self.operands) - len(out))


def _filled(gradient: torch.Tensor | None) -> torch.Tensor | None:
    """Gradients that are zero may come without memory."""
    return torch.zeros(gradient.shape) if gradient is not None and gradient._is_zerotensor() else gradient


class _Parts(TorchDispatchMode):
    """Notes every view that is taken of a tensor of numbers while a node runs."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[np.ndarray] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "is_view", False) and isinstance(out, torch.Tensor):
            self.views.append(out.detach().to(torch.float64).reshape(-1).numpy().copy())
        return out


def _part(handle: Any, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    """CopySlices takes a view of the gradient that it is given: a numbered one tells which part."""
    numbers = torch.arange(int(np.prod(shape)), dtype=torch.float64).reshape(shape).to(dtype)
    with torch.no_grad(), _Parts() as seen:
        handle(numbers)
    return seen.views[0].astype(np.int64)


@dataclass(eq=False)
class Recording:
    """All nodes that a scalar loss depends on."""

    loss: torch.Tensor
    nodes: list[Node]
    root: tuple[Node, int]

    def leaf_node(self, tensor: torch.Tensor) -> Node | None:
        """The node that stands for a leaf, or None where the loss does not depend on it."""
        found = next((n for n in self.nodes if n.leaf is tensor), None)
        return found if found is None or found.twin is None else found.twin


def op_name(name: str) -> str:
    """`AddmmBackward0` → `Addmm`, `torch::autograd::CopySlices` → `CopySlices`."""
    name = name.rsplit("::", 1)[-1]
    head, mark, tail = name.rpartition("Backward")
    return head if mark and (tail == "" or tail.isdigit()) and head else name


def record(loss: torch.Tensor) -> Recording:
    """Walk the graph behind `loss` and take every gradient; the graph is kept."""
    made: dict[Any, Node] = {}
    if loss.grad_fn is None:  # the loss is itself a leaf
        raise ValueError("the loss has no graph")
    start = loss.grad_fn
    stack: list[tuple[Any, bool]] = [(start, False)]
    nodes: list[Node] = []
    open_: set[Any] = set()
    while stack:
        handle, ready = stack.pop()
        if ready:
            operands = [None if up is None else (made[up], nr) for up, nr in handle.next_functions]
            leaf = getattr(handle, "variable", None) if not handle.next_functions else None
            metadata = handle._input_metadata
            node = Node(
                position=len(nodes),
                handle=handle,
                name=op_name(handle.name()),
                shapes=[tuple(leaf.shape)] if leaf is not None else [tuple(m.shape) for m in metadata],
                dtypes=[leaf.dtype] if leaf is not None else [m.dtype for m in metadata],
                operands=operands,
                leaf=leaf,
            )
            if leaf is not None:
                node.twin = next(
                    (n for n in nodes if n.leaf is not None and n.twin is None and _same(n.leaf, leaf)), None
                )
            made[handle] = node
            nodes.append(node)
        elif handle not in open_:
            open_.add(handle)
            stack.append((handle, True))
            stack.extend((up, False) for up, _ in reversed(handle.next_functions) if up is not None)
    recording = Recording(loss, nodes, (made[start], loss.output_nr))
    _take_gradients(recording)
    return recording


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two leaves hold the same scalars in the same order (tied weights, however they were tied)."""
    alike = a.stride() == b.stride() and a.shape == b.shape
    whole = a.is_contiguous() and b.is_contiguous() and a.numel() == b.numel() > 0
    return a.data_ptr() == b.data_ptr() and a.dtype == b.dtype and (alike or whole) and a.numel() > 0


def _take_gradients(recording: Recording) -> None:
    wanted = [(n, k) for n in recording.nodes for k in range(len(n.shapes))]
    edges = [n.leaf if n.leaf is not None else GradientEdge(n.handle, k) for n, k in wanted]
    got = torch.autograd.grad(recording.loss, edges, retain_graph=True, allow_unused=True)
    for (node, k), g in zip(wanted, got, strict=True):
        zero = torch.zeros(node.shapes[k], dtype=node.dtypes[k])
        g = _filled(g)
        dense = zero if g is None else (g.to_dense() if g.layout != torch.strided else g.detach().clone())
        node.gradients.append(dense)
