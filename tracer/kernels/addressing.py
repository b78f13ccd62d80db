"""Reading tensors by address from compiled code."""

from __future__ import annotations

import numba as nb
from numba.core import types
from numba.extending import intrinsic

from gradtrace.tracer.kernels.compiled import inner


@intrinsic
def as_pointer(typingctx, address):
    """An address as a pointer."""
    signature = types.voidptr(address)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, codegen


@inner
def array_at(address, length, like):
    """The `length` elements at `address` as an array with the dtype of `like`; the caller keeps the memory alive."""
    return nb.carray(as_pointer(address), (length,), like.dtype)
