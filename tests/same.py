"""Equality of plain data, where NaN equals NaN and arrays have equal types."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable
from dataclasses import fields, is_dataclass

import numpy as np

from gradtrace.tracer.steptrace import StepTrace


def same(a: object, b: object) -> bool:
    """Whether two values are equal down to the last bit (but for the bits inside a NaN), types included."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if is_dataclass(a) and type(a) is type(b):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


def plain(steps: Iterable[StepTrace]) -> list[StepTrace]:
    """Steps whose paths are spelt out, as they come back from a store or a file."""
    return [pickle.loads(pickle.dumps(step)) for step in steps]
