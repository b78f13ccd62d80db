"""Exact probing: the Jacobian of any operator, read off its own backward with one-hot gradients.

Costs one call of the node for each output scalar, at every step; beyond the budget it is refused with the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradtrace.tracer.errors import OpaqueKernelError, UntraceableOperatorError
from gradtrace.tracer.movement import call
from gradtrace.tracer.recording import OPAQUE
from gradtrace.tracer.rules.base import Context, Entries, Use
from gradtrace.tracer.walk import Node


def probed(context: Context) -> list[Use]:
    """Uses of an operator without a closed rule: one for each operand and output that something reads."""
    node = context.node
    refuse_beyond_budget(node, context.outputs, context.budget)
    uses = []
    for output in context.outputs:
        for slot, ids in enumerate(context.ids):
            if ids is not None:
                use = Use(slot, output, ids, outs=ids, probed=True)
                uses.append(use)
    return uses


def refuse_opaque(node: Node) -> None:
    """Raise for operators that hide others, or work on what is no dense real tensor."""
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
            "inside `with traceable_kernels():`. If it was recorded so, the kernel is called by its own name: call "
            f"{OPAQUE[node.op]} instead.",
            node.op,
            tuple(node.shapes[0]),
        )
    if "Sparse" in node.op:
        raise UntraceableOperatorError(
            f"{node.op} works on sparse tensors; traces are defined for dense ones. Use .to_dense() before that part.",
            node.op,
            tuple(node.shapes[0]),
        )
    if node.op == "CheckpointFunction":
        raise UntraceableOperatorError(
            "A part of the model is checkpointed with use_reentrant=True, which hides its operators behind one that runs a "
            "backward of its own. Let the loss be recorded while it is traced (trace(closure, model), or inside Tracer.step()), "
            "or use torch.utils.checkpoint.checkpoint(..., use_reentrant=False): both are traced.",
            node.op,
            tuple(node.shapes[0]),
        )


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


def entries(node: Node, ids: Sequence[torch.Tensor | None], output: int, most: int | None = None) -> dict[int, Entries]:
    """All scalar edges into one output of the node, by operand slot. Copies of a broadcast operand are edges of their own.

    Several one-hot gradients cannot share a call: the node may mix output scalars freely. Once there are more than `most`
    edges of non-zero weight, the rest is not looked for.
    """
    shape = node.shapes[output]
    one_hot = [torch.zeros(s, dtype=d) for s, d in zip(node.shapes, node.dtypes, strict=True)]
    flat = one_hot[output].view(-1)
    parts: dict[int, list[Entries]] = {slot: [] for slot, operand in enumerate(ids) if operand is not None}
    count = 0
    for u in range(shape.numel()):
        if most is not None and count > most:
            break
        flat[u] = 1
        for slot, grad in enumerate(call(node, *one_hot)[: len(ids)]):
            operand = ids[slot]
            if operand is None or grad is None:
                continue
            if grad._is_zerotensor():
                continue
            raw = (grad.to_dense() if grad.layout != torch.strided else grad).detach()
            at = raw.reshape(-1).nonzero().reshape(-1)
            own = (operand if raw.shape == operand.shape else operand.expand(raw.shape)).reshape(-1)[at]
            outs = torch.full(at.shape, u, dtype=torch.int32)
            count += int((own >= 0).sum()) if most is not None else 0
            parts[slot].append((own.to(torch.int32), outs, raw.reshape(-1)[at].to(node.dtypes[output])))
        flat[u] = 0  # only now: a node may hand back the very gradient it was given
    return {slot: with_the_rest(ids[slot], found, node.dtypes[output]) for slot, found in parts.items()}


def with_the_rest(ids: torch.Tensor | None, found: Sequence[Entries], dtype: torch.dtype) -> Entries:
    """The edges in one piece, and one of weight 0 for every operand scalar: what has no partial is read all the same."""
    assert ids is not None  # constants have no edges
    rest = ids.reshape(-1).to(torch.int32)
    none = torch.zeros(rest.shape, dtype=torch.int32)
    pieces = [*found, (rest, none, torch.zeros(rest.shape, dtype=dtype))]
    return (
        torch.cat([p[0] for p in pieces]),
        torch.cat([p[1] for p in pieces]),
        torch.cat([p[2].to(dtype) for p in pieces]),
    )
