"""Measuring steps side by side: they take turns in one process, and what is compared is what stood next to each other.

Wall time on a shared machine says little by itself. The ratio of two sides that took turns says more, and its spread over the
rounds says how much.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gradtrace.tracer import Tracer
from gradtrace.tracer.loop import Step
from gradtrace.tracer.recording import traceable_kernels

Loss = Callable[[], torch.Tensor]
Side = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest."""

    middle: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of a list of numbers."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.least:.2f}–{self.greatest:.2f})"


def take_turns(
    sides: Mapping[str, Side], rounds: int, warm: int = 3, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds, by a clock, of every side in every round; who goes first changes from round to round."""
    for _ in range(warm):
        for side in sides.values():
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            gc.collect()  # what one side leaves behind is not the next one's to clear away
            start = clock()
            sides[name]()  # what it returns is freed here: that is part of the cost
            seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], side: str, against: str) -> Spread:
    """One side's time over another's, round by round."""
    return Spread.of([a / b for a, b in zip(seconds[side], seconds[against], strict=True)])


def plain_step(model: nn.Module, loss: Loss) -> Side:
    """Forward and backward under the kernels that tracing records with."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with traceable_kernels():
            loss().backward()

    return step


def fused_step(model: nn.Module, loss: Loss) -> Side:
    """Forward and backward under PyTorch's own choice of kernels."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss().backward()

    return step


def traced_step(model: nn.Module, loss: Loss, mode: str | tuple[str, ...] = "greedy") -> Callable[[], Step]:
    """Forward, backward and trace of all parameter scalars."""
    tracer = Tracer(model, every=1, mode=mode)

    def step() -> Step:
        model.zero_grad(set_to_none=True)
        with tracer.step() as traced:
            traced.backward(loss())
        return traced

    return step


def live_share(step: Step) -> float:
    """Parameter scalars with a trace over all of them."""
    assert step.trace is not None  # it was traced
    rows = step.trace.traces[0].parameters
    return sum(r.traffic for r in rows) / sum(torch.Size(r.shape).numel() for r in rows)


def spell(step: Step) -> None:
    """Look at every row and every path of a traced step, as a sink that writes all of it does."""
    assert step.trace is not None  # it was traced
    for batch in step.trace.traces:
        for row in batch.parameters:
            if row.strongest is not None:
                len(row.strongest.index), len(row.strongest.weight), len(row.strongest.gradient)
        len(batch.components), len(batch.routes)


def peak_memory(steps: Side, times: int = 3) -> int:
    """Highest resident size, in bytes, of this process while `steps` runs (Linux)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
    for _ in range(times):
        steps()
    return _status("VmHWM")


def resident() -> int:
    """Resident size of this process in bytes, after giving back what is free (Linux)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _status("VmRSS")


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None  # Linux has it
    return int(found[1]) * 1024


def where() -> str:
    """The machine, in a line."""
    return f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}"
