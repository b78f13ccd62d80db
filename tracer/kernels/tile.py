"""The innermost loop of every (max, ×) product: a tile of columns, whose running maxima and their rows stay in registers.

A tile is up to four vectors of 32 bytes side by side. Written in LLVM's own terms, since a loop in Python keeps the running pair
in memory: that took twice the time. LLVM splits or joins the vectors to what the processor has (AVX2, NEON, ...).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from gradtrace.tracer.kernels.compiled import inlined, inner

_BYTES = 32
"""Of a vector."""
MOST = 4
"""Vectors of a tile: their maxima and rows, eight registers in all, fit the sixteen of AVX2 with room to work."""
_PART = 128
"""Rows of a tile looked at for one row of the result after another: 16 KiB."""


def _tile(vectors: int) -> Callable[..., Any]:
    """The loop over the listed rows of one tile of `vectors` vectors."""

    @intrinsic
    def tile(typingctx, a, a_at, ks, ks_at, count, b, b_at, best, index, out):
        """Lets a[a_at + k] * b[b_at + k * columns + n] compete for best[out + n], for the `count` k in ks from ks_at on.

        index[out + n] is the winner's k.
        """
        return types.void(a, a_at, ks, ks_at, count, b, b_at, best, index, out), _Loop(vectors)

    return tile


class _Loop:
    """Writes the loop of a tile into the function that calls it."""

    def __init__(self, vectors: int) -> None:
        self._vectors = vectors

    def __call__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, ks, b, best, index = (
            context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 2, 5, 7, 8)
        )
        a_at, ks_at, count, b_at, out = (arguments[i] for i in (1, 3, 4, 6, 9))
        size = signature.args[0].dtype.bitwidth // 8
        lanes = _BYTES // size
        whole = ir.IntType(64)
        number = context.get_value_type(signature.args[8].dtype)
        floats = ir.VectorType(context.get_value_type(signature.args[0].dtype), lanes)
        numbers = ir.VectorType(number, lanes)

        def vector(start: Any, offset: Any, kind: Any) -> Any:
            return builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())

        def everywhere(value: Any, kind: Any) -> Any:
            nothing = ir.Constant(kind, ir.Undefined)
            first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(
                first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            )

        def held(array: Any, kind: Any) -> list[Any]:
            places = (builder.add(out, ir.Constant(whole, i * lanes)) for i in range(self._vectors))
            return [vector(array, place, kind) for place in places]

        width = number.width // 8
        best_at, index_at = held(best, floats), held(index, numbers)
        old_tops = [builder.load(place, align=size) for place in best_at]
        old_rows = [builder.load(place, align=width) for place in index_at]
        a, ks, tile = builder.gep(a, [a_at]), builder.gep(ks, [ks_at]), vector(b, b_at, floats)
        before, loop, after = builder.block, builder.append_basic_block("tile"), builder.append_basic_block("tiled")
        builder.cbranch(builder.icmp_signed(">", count, ir.Constant(whole, 0)), loop, after)

        builder.position_at_end(loop)
        q = builder.phi(whole)
        tops = [builder.phi(floats) for _ in range(self._vectors)]
        rows = [builder.phi(numbers) for _ in range(self._vectors)]
        k = builder.load(builder.gep(ks, [q]))
        factor = everywhere(builder.load(builder.gep(a, [k])), floats)
        row = everywhere(k if number.width == 64 else builder.trunc(k, number), numbers)
        line = builder.gep(tile, [builder.mul(k, ir.Constant(whole, self._vectors))])
        new_tops, new_rows = [], []
        for i in range(self._vectors):
            value = builder.fmul(builder.load(builder.gep(line, [ir.Constant(whole, i)]), align=size), factor)
            wins = builder.fcmp_ordered(">", value, tops[i])
            new_tops.append(builder.select(wins, value, tops[i]))
            new_rows.append(builder.select(wins, row, rows[i]))
        onwards = builder.add(q, ir.Constant(whole, 1))
        builder.cbranch(builder.icmp_signed("<", onwards, count), loop, after)
        for running, first, next in (
            (q, ir.Constant(whole, 0), onwards),
            *zip(tops, old_tops, new_tops, strict=True),
            *zip(rows, old_rows, new_rows, strict=True),
        ):
            running.add_incoming(first, before)
            running.add_incoming(next, loop)

        builder.position_at_end(after)
        ends = []
        for kind, olds, lasts in ((floats, old_tops, new_tops), (numbers, old_rows, new_rows)):
            for old, last in zip(olds, lasts, strict=True):
                end = builder.phi(kind)
                end.add_incoming(old, before)
                end.add_incoming(last, loop)
                ends.append(end)
        for end, place in zip(ends, best_at + index_at, strict=True):  # phis stand before everything else in a block
            builder.store(end, place, align=size if end.type == floats else width)
        return context.get_dummy_value()


_one, _two, _three, _four = (_tile(vectors) for vectors in range(1, MOST + 1))


@inlined
def lanes_of(like):
    """Floats of a vector."""
    return _BYTES // like.itemsize


@inlined
def padded(columns, lanes):
    """Columns rounded up to whole vectors."""
    return (columns + lanes - 1) // lanes * lanes


@inlined
def place(k, n, depth, width, lanes):
    """Where row k of column n is among `packed` rows of `width` (whole vectors of) columns: tile by tile, each row by row."""
    most = MOST * lanes
    start = n // most * most
    return start * depth + k * min(most, width - start) + n - start


@inlined
def _tile_max(a, a_at, ks, ks_at, count, packed, depth, width, lanes, start, best, index, out):
    """Lets the listed rows compete in the tile that starts at column `start`; see `row_max`."""
    vectors = min(MOST, (width - start) // lanes)
    at = start * depth
    if vectors == 4:
        _four(a, a_at, ks, ks_at, count, packed, at, best, index, out)
    elif vectors == 3:
        _three(a, a_at, ks, ks_at, count, packed, at, best, index, out)
    elif vectors == 2:
        _two(a, a_at, ks, ks_at, count, packed, at, best, index, out)
    else:
        _one(a, a_at, ks, ks_at, count, packed, at, best, index, out)


@inner
def row_max(a, ks, count, packed, depth, width, lanes, best, index):
    """best[n] = max over the listed k of a[k] * b[k, n] (lowest k on ties); index[n] the k, or -1 where it is 0.

    Args:
        a: [depth] non-negative finite values.
        ks: int64 [>= count], ascending rows to look at (those with a[k] > 0).
        count: how many of `ks` count.
        packed: [depth * width], b tile by tile (see `place`); non-negative finite values, 0 where columns are padded.
        width: columns, padded to whole vectors of `lanes`.
        best, index: [>= width] outputs; `index` as wide as the floats.
    """
    best[:width] = 0
    index[:width] = -1
    for start in range(0, width, MOST * lanes):
        _tile_max(a, 0, ks, 0, count, packed, depth, width, lanes, start, best, index, start)


@inner
def rows_max(panel, rows, depth, packed, width, lanes, ks, counts, best, index):
    """`row_max` for the first `rows` rows of `panel` [., depth], each with its line of `ks`, `counts`, `best` and `index`.

    Finds out itself which k are positive. Part after part of a tile, so that one stays in the first-level cache for all rows.
    """
    most = np.int64(0)
    for i in range(rows):
        counts[i] = positive(panel[i], depth, ks[i])
        most = max(most, counts[i])
    best[:rows] = 0
    index[:rows] = -1
    # Rows by where they begin: a slice for each would cost as much as the work on a small one.
    factors, listed, into, rows_into, line = (
        panel.reshape(-1),
        ks.reshape(-1),
        best.reshape(-1),
        index.reshape(-1),
        best.shape[1],
    )
    for start in range(0, width, MOST * lanes):
        for first in range(0, most, _PART):
            for i in range(rows):
                if first < counts[i]:
                    _tile_max(
                        factors, i * panel.shape[1], listed, i * ks.shape[1] + first, min(_PART, counts[i] - first), packed,
                        depth, width, lanes, start, into, rows_into, i * line + start,
                    )  # fmt: skip


@inner
def positive(a, depth, ks):
    """The k where a[k] > 0, in `ks`; returns how many."""
    count = 0
    for k in range(depth):
        ks[count] = k
        count += a[k] > 0
    return count


@inlined
def column_of(packed, n, depth, width, lanes):
    """Column n of `packed`: [depth]."""
    most = MOST * lanes
    start = n // most * most
    step = min(most, width - start)
    at = start * depth + n - start
    return packed[at : at + (depth - 1) * step + 1 : step]


@inner
def pack(b, k_step, n_step, rows, span, first, depth, width, lanes, largest, packed):
    """|b[k, n]| for k < rows, n < span as rows first + k of `packed`, non-finite entries as 0; returns how many there were."""
    bad = 0
    most = MOST * lanes
    for start in range(0, width, most):
        step = min(most, width - start)
        held = min(step, span - start)
        into = packed[start * depth + first * step :]
        if n_step == 1:
            for k in range(rows):
                line, row = b[k * k_step + start :], into[k * step :]
                for n in range(held):
                    value = abs(line[n])
                    finite = value <= largest
                    bad += not finite
                    row[n] = value if finite else 0
                for n in range(held, step):
                    row[n] = 0
            continue
        for n in range(held):
            line = b[(start + n) * n_step :]
            for k in range(rows):
                value = abs(line[k * k_step])
                finite = value <= largest
                bad += not finite
                into[k * step + n] = value if finite else 0
        for n in range(held, step):
            for k in range(rows):
                into[k * step + n] = 0
    return bad


@inner
def without_overflow(column, ks, count, packed, span, depth, width, lanes, largest, best, index):
    """Look again, one by one, where a product of two finite entries overflowed; returns how many did."""
    bad = 0
    for n in range(span):
        if best[n] > largest:
            best[n] = 0
            index[n] = -1
            for q in range(count):
                value = column[ks[q]] * packed[place(ks[q], n, depth, width, lanes)]
                if value > largest:
                    bad += 1
                elif value > best[n]:
                    best[n] = value
                    index[n] = ks[q]
    return bad
