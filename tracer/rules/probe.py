"""Exact probing: the Jacobian of any operator, read off its own backward with one-hot gradients.

Costs one call of the node for each output scalar, at every step; beyond the budget it is refused with the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradtrace.tracer.errors import OpaqueKernelError, UntraceableOperatorError
from gradtrace.tracer.movement import call
from gradtrace.tracer.recording import OPAQUE
from gradtrace.tracer.rules.base import Context, Use
from gradtrace.tracer.walk import Node

Entries = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Scalar edges of one operand: ids int32 [E], output indices int32 [E], weights [E]."""


def probed(context: Context) -> list[Use]:
    """Uses of an operator without a closed rule: one for each operand and output that something reads."""
    node = context.node
    if node.op.startswith("CompiledFunction"):
        raise UntraceableOperatorError(
            "A part of the model is compiled (torch.compile), which fuses operators so that they cannot be told apart. "
            "Trace the module that was compiled: compiled._orig_mod is it, and shares its parameters.",
            node.op,
            tuple(node.shapes[0]),
        )
    if node.op in OPAQUE:
        raise OpaqueKernelError(
            f"The loss was recorded with the fused kernel {node.op} of {OPAQUE[node.op]}, which hides its operators. "
            "Record it traceably: pass a function, trace(lambda: loss_fn(model(x), y), model), or compute the loss "
            "inside `with traceable_kernels():`.",
            node.op,
            tuple(node.shapes[0]),
        )
    refuse_beyond_budget(node, context.outputs, context.budget)
    uses = []
    for output in context.outputs:
        for slot, ids in enumerate(context.ids):
            if ids is not None:
                use = Use(slot, output, ids, outs=ids, probed=True)
                uses.append(use)
    return uses


def refuse_beyond_budget(node: Node, outputs: Sequence[int], budget: int) -> None:
    """Raise UntraceableOperatorError if the operator has more output scalars than may be probed."""
    count = sum(node.shapes[o].numel() for o in outputs)
    if count > budget:
        raise UntraceableOperatorError(
            f"{node.op} has no closed rule, and its {count:,} output scalars (shape {tuple(node.shapes[outputs[0]])}) exceed "
            f"the probing budget of {budget:,}. Trace a smaller batch, raise probe_budget, or freeze what lies below it.",
            node.op,
            tuple(node.shapes[outputs[0]]),
        )


def entries(node: Node, ids: Sequence[torch.Tensor | None], output: int) -> dict[int, Entries]:
    """All scalar edges into one output of the node, by operand slot."""
    jacobian = jacobian_of(node, ids, output)
    result = {}
    for slot, operand in enumerate(ids):
        if operand is None:
            continue
        found = jacobian.get(slot)
        flat = operand.reshape(-1)
        if found is None:
            found = torch.zeros(node.shapes[output].numel(), flat.numel())
        # A scalar with no non-zero partial is read all the same: keep one edge of weight 0 for it.
        keep = found != 0
        keep[0] |= ~keep.any(0)
        outs, at = keep.nonzero(as_tuple=True)
        result[slot] = (flat[at].contiguous(), outs.to(torch.int32), found[outs, at].contiguous())
    return result


def jacobian_of(node: Node, ids: Sequence[torch.Tensor | None], output: int) -> dict[int, torch.Tensor]:
    """Per operand slot the dense Jacobian [output scalars, operand scalars].

    Several one-hot gradients cannot share a call: the node may mix output scalars freely.
    """
    shape, dtype = node.shapes[output], node.dtypes[output]
    count = shape.numel()
    one_hot = [torch.zeros(s, dtype=d) for s, d in zip(node.shapes, node.dtypes, strict=True)]
    rows: dict[int, torch.Tensor] = {}
    flat = one_hot[output].view(-1)
    for u in range(count):
        flat[u] = 1
        grads = call(node, *one_hot)
        for slot, grad in enumerate(grads[: len(ids)]):
            operand = ids[slot]
            if operand is None or grad is None:
                continue
            if slot not in rows:
                rows[slot] = torch.zeros(count, operand.numel(), dtype=dtype)
            rows[slot][u] = grad.detach().to(dtype).reshape(-1) if grad.shape == operand.shape else _fit(grad, operand)
        flat[u] = 0  # only now: a node may hand back the very gradient it was given
    return rows


def _fit(grad: torch.Tensor, operand: torch.Tensor) -> torch.Tensor:
    return grad.detach().sum_to_size(operand.shape).reshape(-1)
