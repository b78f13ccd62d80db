"""Which nodes only move data, told by the values of their Jacobians.

A node is movement if, however the floats are drawn, each of its output scalars has at most one partial, that partial
is exactly 1, and it is always the same one. Values cannot tell three things; for these the two lists below state the
definition's own words.
"""

from __future__ import annotations

import numpy as np

from tests.oracle.probing import Jacobian, jacobian
from tests.oracle.recording import Node

NEVER = {
    # "`+0` is not movement": an operand without gradient leaves a bare 1 behind.
    "Add", "Sub", "Rsub", "Mul", "Div", "Pow", "Addcmul", "Addcdiv", "Lerp", "Fmod", "Remainder",
    # "sums": over one element their Jacobian is a selection too.
    "Sum", "Mean", "Prod", "Cumsum", "Cumprod", "Nansum", "Logsumexp", "Logcumsumexp", "Norm", "LinalgVectorNorm",
    "IndexAdd", "ScatterAdd", "Col2Im", "Addmm", "Mm", "Bmm", "Baddbmm", "Addbmm", "Mv", "Dot", "Trace",
    # "choices that depend on values (max, sort, pooling)", and slopes of 1 that happen to hold at all drawn values.
    "Max", "Min", "Amax", "Amin", "Maximum", "Minimum", "Fmax", "Fmin", "Sort", "Topk", "Kthvalue", "Median",
    "Nanmedian", "Mode",
    "Aminmax", "Cummax", "Cummin", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D",
    "MaxPool2D", "MaxPool3D", "AdaptiveMaxPool3D", "FractionalMaxPool2D", "FractionalMaxPool3D", "IndexReduce",
    "ScatterReduce", "GridSampler2D", "GridSampler3D", "Copysign", "NanToNum", "Frac", "Nextafter",
    "Relu", "LeakyRelu", "Threshold", "Hardtanh", "Hardshrink", "Softshrink", "Clamp", "ClampMin", "ClampMax", "Elu",
    "PreluKernel", "Abs", "Rrelu", "Round", "Floor", "Ceil", "Trunc", "Sign",
    # "scaling (dropout, ...)": with p = 0 or a scale of 1 it still scales.
    "NativeDropout", "FusedDropout", "AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "EmbeddingBag",
    "UpsampleLinear1D", "UpsampleBilinear2D", "UpsampleTrilinear3D", "UpsampleBicubic2D",
    # Of one scalar, what is computed may be the scalar itself.
    "LinalgDet", "LinalgSlogdet", "LinalgSolveTriangular",
}  # fmt: skip
"""Operators by definition, whatever their Jacobian."""

CHOOSERS = {
    "Where", "MaskedFill", "MaskedScatter", "MaskedSelect", "Gather", "Scatter", "Index", "IndexSelect", "IndexPut",
    "IndexCopy", "IndexFill", "Take", "Put", "UnsafeMaskedIndex", "MaxUnpool2D",
    "MaxUnpool3D", "Embedding", "Repeat", "RepeatInterleave",
}  # fmt: skip
"""Nodes that choose by an integer or boolean argument. That argument may have been computed from floats (`where(x > 0,
...)`), so the selection may differ from one drawing to the next: it must be a selection in each."""

EMPTY = CHOOSERS | {"Tril", "Triu", "ConstantPadNd", "Slice", "Cat", "CopyBackwards", "Fill", "Zero"}
"""Nodes that still only move when they let no scalar through. Any other node without a single partial (a softmax over
one element) is an operator that happens to be flat."""

PARTIAL = {"CopySlices"}
"""In-place writes: the scalars that they copy are aliases, the others cross one operator."""


def selected(jac: Jacobian, node: Node) -> list[np.ndarray]:
    """Per output and scalar: True where it has at most one partial and that is exactly 1."""
    out = []
    for k, shape in enumerate(node.shapes):
        size = int(np.prod(shape))
        mine = jac.output == k
        count = np.bincount(jac.row[mine], minlength=size)
        ones = np.bincount(jac.row[mine], weights=(jac.weight[mine] == 1.0), minlength=size)
        out.append((count <= 1) & (ones == count))
    return out


def _same(a: Jacobian, b: Jacobian) -> bool:
    return all(
        np.array_equal(x, y) for x, y in ((a.output, b.output), (a.row, b.row), (a.slot, b.slot), (a.column, b.column))
    )


def _of_write(nodes: list[Node], selects: np.ndarray) -> list[np.ndarray]:
    """Of an in-place write: all aliases if the function that wrote is movement, else those outside the part."""
    if nodes[0].written is None:  # an older torch does not tell: by values alone
        return [selects]
    functions = [n.written[0] for n in nodes if n.written is not None]
    inner = moved(functions, [jacobian(f) for f in functions])[0]
    if inner.all():
        return [np.ones(selects.shape, dtype=bool)]
    crossing = np.zeros(selects.shape, dtype=bool)
    crossing[nodes[0].written[1]] = True
    return [~crossing]


def moved(nodes: list[Node], jacobians: list[Jacobian]) -> list[np.ndarray]:
    """Which output scalars of one node are aliases, from the same node in several drawings.

    Returns:
        per output a bool array: all True for movement, all False for an operator, mixed only for in-place writes.
    """
    node = nodes[0]
    per_drawing = [selected(j, n) for j, n in zip(jacobians, nodes, strict=True)]
    every = [np.logical_and.reduce([p[k] for p in per_drawing]) for k in range(len(node.shapes))]
    if node.name in PARTIAL:
        return _of_write(nodes, every[0])
    never = node.custom or node.name in NEVER or bool(getattr(node.handle, "_saved_accumulate", False))
    stable = node.name in CHOOSERS or all(_same(jacobians[0], j) for j in jacobians[1:])
    flat = not any(len(j.row) for j in jacobians) and node.name not in EMPTY
    movement = not never and not flat and stable and all(bool(e.all()) for e in every)
    return [np.full(e.shape, movement) for e in every]
