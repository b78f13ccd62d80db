"""Which scalars of an operator's output read a scalar of its operands, by the kind of fan-out.

`uses_of` finds the rule for one autograd node: elementwise and reductions (`pairs`), contractions (`contraction`), dense
rows (`rows`), and anything else by probing the node itself (`probe`).
"""

from __future__ import annotations

import torch

from gradtrace.tracer.rules import convolution, inplace, pooling, scattering
from gradtrace.tracer.rules.base import Context, Use
from gradtrace.tracer.rules.contraction import CONTRACTIONS, TRILINEAR_ATTRIBUTES
from gradtrace.tracer.rules.declared import declared, kind_of
from gradtrace.tracer.rules.inplace import COPY_SLICES
from gradtrace.tracer.rules.norms import NORMALISED, norm, weight_norm
from gradtrace.tracer.rules.pairs import (
    ELEMENTWISE,
    PAIRED,
    REDUCTIONS,
    TWO_REDUCTIONS,
    elementwise,
    reduction,
    single_output,
    two_reductions,
)
from gradtrace.tracer.rules.probe import probed, refuse_opaque
from gradtrace.tracer.rules.rows import ROWS
from gradtrace.tracer.rules.selection import SELECTED, selection
from gradtrace.tracer.rules.writes import write, write_entries

TAPS = ("Tap", "_Tap")

__all__ = ["Context", "Use", "attributes_of", "inplace", "uses_of", "write_entries"]


def uses_of(context: Context) -> list[Use]:
    """The uses of all operands of one operator (see `Use`). Operands that are constants have none."""
    op = context.node.op
    refuse_opaque(context.node)
    if op == COPY_SLICES:
        return write(context)
    if kind_of(context.node) is not None:
        return declared(context)
    if isinstance(context.node.fn, torch.autograd.function.BackwardCFunction) and op not in TAPS:
        return probed(context)
    if op in CONTRACTIONS and (product := CONTRACTIONS[op](context)) is not None:
        return product
    if op in ROWS:
        return ROWS[op](context)
    if op == "Convolution":
        return convolution.convolution(context)
    if op in pooling.WINDOWED:
        return pooling.windowed(context)
    if op in TWO_REDUCTIONS:
        return two_reductions(context)
    if op in NORMALISED and (normalised := norm(context)) is not None:
        return normalised
    if op == "WeightNormInterface" and (weighed := weight_norm(context)) is not None:
        return weighed
    if op in SELECTED:
        return selection(context)
    if op in scattering.SUMS:
        return scattering.sums(context)
    if op in scattering.REDUCED:
        return scattering.reduced(context)
    if op == "Col2Im":
        return scattering.fold(context)
    if op == "Embedding":
        return scattering.embedding(context)
    if op == "EmbeddingBag" and (bagged := scattering.bag(context)) is not None:
        return bagged
    if len(context.node.shapes) == 1:
        count = context.node.shapes[0].numel()
        operands = [ids for ids in context.ids if ids is not None]
        broadcast = all(ids.numel() <= count for ids in operands)
        # Operands of several shapes may be broadcast against each other inside: then a scalar is read more than once.
        if count == 1 and len({ids.shape for ids in operands}) == 1 and not (op in ELEMENTWISE and broadcast):
            return single_output(context)
        if op in ELEMENTWISE and broadcast:
            return elementwise(context)
        if op in REDUCTIONS:
            return reduction(context)
        if op in PAIRED:
            return PAIRED[op](context)
    return probed(context)


_ATTRIBUTES = {
    "Addmm": ("alpha", "beta"),
    "Baddbmm": ("alpha", "beta"),
    "Addbmm": ("alpha", "beta"),
    "Addr": ("alpha", "beta"),
    "Addmv": ("alpha", "beta"),
    "Add": ("alpha",),
    "Sub": ("alpha",),
    "Rsub": ("alpha",),
    "Softmax": ("dim",),
    "LogSoftmax": ("dim",),
    "SafeSoftmax": ("dim",),
    "Cumsum": ("dim",),
    "Cumprod": ("dim",),
    "Logcumsumexp": ("dim",),
    "Trilinear": TRILINEAR_ATTRIBUTES,
    "Col2Im": scattering.FOLD_ATTRIBUTES,
    "NativeBatchNorm": ("training",),
    "NativeBatchNormLegit": ("training",),
    "NativeGroupNorm": ("group",),
    "WeightNormInterface": ("dim",),
    "EmbeddingBag": ("mode", "sparse", "scale_grad_by_freq"),
    "NativeLayerNorm": ("normalized_shape",),
    "NllLoss": ("reduction",),
    "Glu": ("dim",),
    "Convolution": convolution.ATTRIBUTES,
    **dict.fromkeys(pooling.WINDOWED, pooling.ATTRIBUTES),
}


def attributes_of(op: str) -> tuple[str, ...]:
    """Names of the saved numbers that the rule of this operator reads: part of a plan's key."""
    if op in REDUCTIONS or op in TWO_REDUCTIONS:
        return ("dim", "keepdim")
    return _ATTRIBUTES.get(op, ())
