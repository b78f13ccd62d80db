"""Floats compared as integers: for magnitudes the order is the same, and integer maxima vectorise without fast-math.

Of non-finite numbers the bits lie above those of every finite one, so one comparison at the end of a loop finds them.
"""

from __future__ import annotations

import llvmlite.ir as ir
import numba as nb
from numba.core import types
from numba.extending import intrinsic

from gradtrace.tracer.kernels.compiled import inner, sums


@intrinsic
def magnitude_bits(typingctx, x):
    """The bits of |x| as a signed integer as wide as the float."""
    wide = x.bitwidth
    signature = (types.int64 if wide == 64 else types.int32)(x)

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(wide)
        return builder.and_(builder.bitcast(arguments[0], integer), ir.Constant(integer, (1 << (wide - 1)) - 1))

    return signature, codegen


BLOCK = 64
"""Products of which the largest is found before it is asked which of them it was."""


@inner
def largest_product(a, b, count):
    """(value, k) of the largest |a[k] * b[k]| over k < count, lowest k on ties; (0, -1) where all are zero.

    A non-finite product makes the value inf or NaN; the caller then looks one by one.

    Args:
        a, b: contiguous float arrays of one dtype, at least `count` long.
        count: ≥ 1.
    """
    top = magnitude_bits(a[0] * b[0])
    block = 0
    k = 0
    while k + BLOCK <= count:
        here = magnitude_bits(a[k] * b[k])
        for i in range(k, k + BLOCK):
            one = magnitude_bits(a[i] * b[i])
            here = one if one > here else here
        if here > top:
            top = here
            block = k
        k += BLOCK
    here = top
    for i in range(k, count):
        one = magnitude_bits(a[i] * b[i])
        here = one if one > here else here
    if here > top:
        top = here
        block = k
    if top == 0:
        return a.dtype.type(0), nb.int64(-1)
    while magnitude_bits(a[block] * b[block]) != top:
        block += 1
    return abs(a[block] * b[block]), nb.int64(block)


@intrinsic
def of_bits(typingctx, bits, like):
    """The float, of the type of `like`, that has these bits."""
    signature = like(bits, like)

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@sums
def total_and_largest(x, count):
    """(Σ|x|, max|x|) over the first `count`, as float64; not finite where one of them is not."""
    total = 0.0
    top = magnitude_bits(x.dtype.type(0))
    for i in range(count):  # indices that could be negative would keep the loop from being vectorised
        total += abs(nb.float64(x[i]))
        here = magnitude_bits(x[i])
        top = here if here > top else top
    return total, nb.float64(of_bits(top, x[0]))
