"""Operators whose scalar edges can be listed: each position has one operand scalar and one output scalar.

Elementwise operators (broadcast operands are read once for every copy), reductions, and operators with a single output.
Where every operand scalar has one consumer, |w·g| is the operand's own |gradient|, which the engine works out anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from gradtrace.tracer.kernels.layout import VALUES, WEIGHTS
from gradtrace.tracer.movement import call
from gradtrace.tracer.rules.base import Context, Source, Use
from gradtrace.tracer.walk import Node, as_signed

ELEMENTWISE = frozenset(
    [
        "Add",
        "Sub",
        "Rsub",
        "Mul",
        "Div",
        "Neg",
        "Abs",
        "Sgn",
        "Exp",
        "Exp2",
        "Expm1",
        "Log",
        "Log2",
        "Log10",
        "Log1P",
        "Sqrt",
        "Rsqrt",
        "Pow",
        "Reciprocal",
        "Square",
        "Sin",
        "Cos",
        "Tan",
        "Asin",
        "Acos",
        "Atan",
        "Sinh",
        "Cosh",
        "Tanh",
        "Asinh",
        "Acosh",
        "Atanh",
        "Sigmoid",
        "LogSigmoid",
        "Relu",
        "Relu6",
        "LeakyRelu",
        "Elu",
        "Celu",
        "Gelu",
        "Silu",
        "Mish",
        "Softplus",
        "Hardtanh",
        "Hardsigmoid",
        "Hardswish",
        "Hardshrink",
        "Softshrink",
        "Threshold",
        "RreluWithNoise",
        "PreluKernel",
        "Clamp",
        "ClampMin",
        "ClampMax",
        "Maximum",
        "Minimum",
        "Fmax",
        "Fmin",
        "Erf",
        "Erfc",
        "Erfinv",
        "Lerp",
        "Addcmul",
        "Addcdiv",
        "Atan2",
        "Hypot",
        "Xlogy",
        "Xlog1Py",
        "Logaddexp",
        "Logaddexp2",
        "Logit",
        "Lgamma",
        "Digamma",
        "Sinc",
        "Special",
        "NanToNum",
        "Fmod",
        "Remainder",
        "Floor",
        "Ceil",
        "Round",
        "Trunc",
        "Frac",
        "NativeDropout",
        "FusedDropout",
        "NativeDropoutBackward",
        "Deg2Rad",
        "Rad2Deg",
        "Copysign",
        "Ldexp",
        "Heaviside",
        "Sign",
        "MulBackwardScalar",
        "MseLoss",
        "L1Loss",
        "SmoothL1Loss",
        "HuberLoss",
        "BinaryCrossEntropy",
        "BinaryCrossEntropyWithLogits",
        "KlDiv",
        "SoftMarginLoss",
        "Angle",
        "I0",
        "Bernoulli",
        "Normal",
        "Mvlgamma",
        "Polygamma",
        "Frexp",
        "Nextafter",
        "SpecialBesselJ0",
        "SpecialBesselJ1",
        "SpecialBesselY0",
        "SpecialBesselY1",
        "SpecialEntr",
        "SpecialErfcx",
        "SpecialI0E",
        "SpecialI1",
        "SpecialI1E",
        "SpecialLogNdtr",
        "SpecialModifiedBesselI0",
        "SpecialModifiedBesselI1",
        "SpecialModifiedBesselK0",
        "SpecialModifiedBesselK1",
        "SpecialNdtri",
        "SpecialXlog1Py",
        "Tap",
        "_Tap",
    ]
)
"""Output scalar i reads scalar i of each operand, broadcast to the output's shape. (The losses: without reduction.)"""

REDUCTIONS = frozenset(
    [
        "Sum",
        "Mean",
        "Nansum",
        "Prod",
        "Amax",
        "Amin",
        "Max",
        "Min",
        "Logsumexp",
        "Std",
        "Var",
        "LinalgVectorNorm",
        "Norm",
        "Median",
        "Nanmedian",
        "Mode",
        "Kthvalue",
    ]
)
"""Each operand scalar is read by one output scalar, found by dropping the reduced dimensions."""

_CONSTANT_ONE = frozenset({"Add", "Sub", "Tap", "_Tap"})


def elementwise(context: Context) -> list[Use]:
    """Rule for `ELEMENTWISE`: one consumer a scalar, or one for each copy of a broadcast scalar."""
    node, output = context.node, context.outputs[0]
    shape = node.shapes[output]
    uses = []
    for slot, ids in enumerate(context.ids):
        if ids is None:
            continue
        use = Use(slot, output, ids.expand(shape), outs=context.out_index(output))
        constant = _constant(node, slot)
        if constant is not None:
            use.constant = constant
        elif ids.numel() == shape.numel():
            use.sources[VALUES] = Source("gradient", slot)
            if context.weights:
                use.sources[WEIGHTS] = Source("ones", slot, count=shape.numel())
        else:
            use.sources[WEIGHTS] = Source("ones", slot, count=shape.numel())
        uses.append(use)
    return uses


def single_output(context: Context) -> list[Use]:
    """Any operator with one output scalar: whatever it computes, each operand scalar has that one consumer."""
    uses = []
    for slot, ids in enumerate(context.ids):
        if ids is not None:
            uses.append(_one_consumer(context, slot, ids, context.positions(1).view(()).expand(ids.shape)))
    return uses


def reduction(context: Context) -> list[Use]:
    """Rule for `REDUCTIONS` over some of the dimensions."""
    output = context.outputs[0]
    ids = context.ids[0]
    assert ids is not None  # a reduction has one operand, and the node would not exist if that were a constant
    shape = list(ids.shape)
    for dim in reduced_dims(context.node, ids.dim()):
        shape[dim] = 1
    outs = context.positions(context.node.shapes[output].numel()).view(shape).expand(ids.shape)
    return [_one_consumer(context, 0, ids, outs)]


TWO_REDUCTIONS = ("VarMean", "StdMean", "Aminmax")


def two_reductions(context: Context) -> list[Use]:
    """Two reductions in one operator: each operand scalar is read by one scalar of either output."""
    ids = context.ids[0]
    assert ids is not None  # one operand
    shape = list(ids.shape)
    for dim in reduced_dims(context.node, ids.dim()):
        shape[dim] = 1
    uses = []
    for output in context.outputs:
        outs = context.positions(context.node.shapes[output].numel()).view(shape).expand(ids.shape)
        uses.append(one_of_several(ids, output, outs))
    return uses


def one_of_several(ids: torch.Tensor, output: int, outs: torch.Tensor) -> Use:
    """The first operand of an operator with several outputs: one scalar of this output reads each of its scalars."""
    use = Use(0, output, ids, outs=outs)
    use.sources[WEIGHTS] = Source("derived", 0, derive=_partials_of(output, ids.shape))
    return use


def _partials_of(output: int, shape: torch.Size) -> Callable[[Node], torch.Tensor]:
    def derive(node: Node) -> torch.Tensor:
        ones = [
            torch.full(s, float(at == output), dtype=d)
            for at, (s, d) in enumerate(zip(node.shapes, node.dtypes, strict=True))
        ]
        found = call(node, *ones)[0]
        return torch.zeros(shape) if found is None else found

    return derive


def reduced_dims(node: Node, dims: int) -> list[int]:
    """Dimensions that a reduction drops, non-negative; all where it names none."""
    saved = node.saved("dim")
    if saved is None or (isinstance(saved, tuple) and not saved):
        return list(range(dims))
    listed = saved if isinstance(saved, tuple | list) else (saved,)
    return [as_signed(d) % max(dims, 1) for d in listed] if dims else []


def _one_consumer(context: Context, slot: int, ids: torch.Tensor, outs: torch.Tensor) -> Use:
    use = Use(slot, context.outputs[0], ids, outs=outs)
    if context.node.op == "Sum":
        return use
    use.sources[VALUES] = Source("gradient", slot)
    if context.weights:
        use.sources[WEIGHTS] = Source("ones", slot, count=ids.numel())
    return use


def _constant(node: Node, slot: int) -> float | None:
    """The weight of an operand whose partial is the same number everywhere, or None."""
    if node.op == "Neg":
        return -1.0
    if node.op not in _CONSTANT_ONE:
        return None
    if slot == 0:
        return 1.0
    alpha = float(node.saved("alpha") if node.saved("alpha") is not None else 1)
    return -alpha if node.op == "Sub" else alpha


def _nll(context: Context) -> list[Use]:
    """nll_loss without reduction: row b of [B, C] is read by output b."""
    ids = context.ids[0]
    assert ids is not None  # targets take no gradient
    outs = context.positions(ids.shape[0]).view(-1, 1).expand(ids.shape)
    return [_one_consumer(context, 0, ids, outs)]


def _glu(context: Context) -> list[Use]:
    """Both halves along the split dimension are read by the output at the same place."""
    ids = context.ids[0]
    assert ids is not None  # GLU has one operand
    index = context.out_index()
    return [_one_consumer(context, 0, ids, torch.cat([index, index], context.node.saved_int("dim")))]


def _nll_places(context: Context) -> list[Use]:
    """nll_loss over places without reduction: [B, C, H, W] is read by [B, H, W]."""
    ids = context.ids[0]
    assert ids is not None  # targets take no gradient
    return [_one_consumer(context, 0, ids, context.out_index().unsqueeze(1).expand(ids.shape))]


def _ctc(context: Context) -> list[Use]:
    """ctc_loss without reduction: log-probabilities [T, B, C] are read by the loss of their sequence."""
    ids = context.ids[0]
    assert ids is not None  # targets take no gradient
    return [_one_consumer(context, 0, ids, context.out_index().view(1, -1, 1).expand(ids.shape))]


PAIRED: dict[str, Callable[[Context], list[Use]]] = {
    "NllLoss": _nll,
    "NllLoss2D": _nll_places,
    "MultiMarginLoss": _nll,
    "MultilabelMarginLoss": _nll,
    "CtcLoss": _ctc,
    "Glu": _glu,
}
"""Operators with a pairing of their own."""
