"""The compiled (max, ×) product is equal, bit by bit, to the one in plain torch, whatever its factors are like."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradtrace.tracer.kernels.maxtimes import maxtimes, maxtimes_reference

TINY = {torch.float32: 1e-42, torch.float64: 1e-310}
HUGE = {torch.float32: 1e30, torch.float64: 1e300}


def factors(shape: tuple[int, int], dtype: torch.dtype, kind: str, seed: int) -> torch.Tensor:
    """[shape]: normal numbers, few different ones (ties), zeros, denormals, overflowing products, or NaN and infinities."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    chosen = torch.rand(shape, generator=generator) < 0.2
    if kind == "ties":
        x = x.round()
    elif kind == "zeros":
        x = torch.where(torch.rand(shape, generator=generator) < 0.7, 0.0, x).to(dtype)
    elif kind == "tiny":
        x = x * TINY[dtype]
    elif kind == "huge":
        x = torch.where(chosen, x * HUGE[dtype], x)
    elif kind == "broken":
        bad = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype)
        x = torch.where(chosen, bad[torch.randint(0, 3, shape, generator=generator)], x)
    return x


KINDS = ("plain", "ties", "zeros", "tiny", "huge", "broken")


@settings(max_examples=200, deadline=None)
@given(
    depth=st.integers(0, 300),
    rows=st.integers(1, 40),
    columns=st.one_of(st.integers(1, 70), st.integers(250, 300)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    strided=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**31),
)
def test_equal_to_plain_torch(
    depth: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    kinds: tuple[str, str],
    strided: tuple[bool, bool],
    seed: int,
) -> None:
    sides = []
    for at, (width, kind, turned) in enumerate(zip((rows, columns), kinds, strided, strict=True)):
        shape = (width, depth) if turned else (depth, width)
        side = factors(shape, dtype, kind, seed + at)
        sides.append(side.t() if turned else side)
    value, index = maxtimes(*sides)
    wanted, at_wanted = maxtimes_reference(*sides)
    assert value is not None
    assert torch.equal(value, wanted)
    assert torch.equal(index, at_wanted)


def test_shared_out_over_threads_it_is_the_same() -> None:
    a, b = factors((64, 301), torch.float32, "zeros", 0), factors((64, 257), torch.float32, "ties", 1)
    assert a.numel() * b.shape[1] >= 1 << 22
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        value, index = maxtimes(a, b)
    finally:
        torch.set_num_threads(before)
    wanted, at_wanted = maxtimes_reference(a, b)
    assert value is not None and torch.equal(value, wanted) and torch.equal(index, at_wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_widened(dtype: torch.dtype) -> None:
    a, b = torch.randn(30, 5).to(dtype), torch.randn(30, 9).to(dtype)
    value, index = maxtimes(a, b)
    wanted, at_wanted = maxtimes_reference(a.float(), b.float())
    assert value is not None and value.dtype == torch.float32
    assert torch.equal(value, wanted) and torch.equal(index, at_wanted)


def test_values_may_be_left_out() -> None:
    assert maxtimes(torch.ones(2, 3), torch.ones(2, 4), values=False)[0] is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.ones(2, 3), torch.ones(3, 3)),
        (torch.ones(2), torch.ones(2, 3)),
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.float64)),
    ],
)
def test_other_shapes_and_types_are_refused(a: torch.Tensor, b: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"takes a \[K, M\] and b \[K, N\] of one dtype"):
        maxtimes(a, b)
