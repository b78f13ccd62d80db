"""`Tracer`: tracing inside a training loop."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from gradtrace.tracer.blocking import blocking, check_blocked_modes
from gradtrace.tracer.capture import Captured
from gradtrace.tracer.collector import collector_paused
from gradtrace.tracer.components import recorded, watch_modules
from gradtrace.tracer.errors import BudgetError, GradtraceError, TraceError
from gradtrace.tracer.plan import Options
from gradtrace.tracer.plans import Plans, check_model
from gradtrace.tracer.record import Modes, backward, check_modes, finish, needs_weights, record
from gradtrace.tracer.recording import traceable_kernels
from gradtrace.tracer.result import Trace
from gradtrace.tracer.scalargraph import GRAPH_BUDGET
from gradtrace.tracer.scalars import check_granularity
from gradtrace.tracer.sinks.protocol import Sink
from gradtrace.tracer.spreadtrace import SPREAD_MODES
from gradtrace.tracer.steptrace import BATCHES, MODES, StepTrace
from gradtrace.tracer.walk import check_loss

Schedule = int | str | Callable[[int], bool]


class Step:
    """One training step, traced or not. Made by `Tracer.step`.

    Attributes:
        number: the step's number, from 0.
        epoch: number of the pass over the data.
        traced: whether this step is traced.
        trace: the `StepTrace`, once `backward` has run on a traced step; else None.
        traces: the `Trace` objects behind it, by batch ("training", "probe").
    """

    def __init__(self, tracer: Tracer, number: int, epoch: int, traced: bool) -> None:
        self._tracer = tracer
        self.number, self.epoch, self.traced = number, epoch, traced
        self.trace: StepTrace | None = None
        self.traces: dict[str, Trace] = {}
        self._backwards = 0

    def backward(self, loss: torch.Tensor, scaler: Any = None) -> None:
        """`loss.backward()`, traced where the step is. With a GradScaler, pass the unscaled loss and the scaler.

        On gradient accumulation the first backward of a step is the one traced.
        """
        first = self._backwards == 0
        self._backwards += 1
        scaled = loss if scaler is None else scaler.scale(loss)
        with self._tracer.blocking(loss):
            if self.traced and first:
                self._tracer.run_traced(self, loss, scaled, 1.0 if scaler is None else float(scaler.get_scale()))
            else:
                scaled.backward()


class Tracer:
    """Traces every n-th step of a training loop and hands the steps to a sink.

    Args:
        model: whose parameters are traced.
        sink: takes the `StepTrace`s (None: they are only on `step.trace`).
        run: id under which the steps are stored.
        every: n for every n-th step (0, n, 2n, …), `"log"` for steps 0, 1, 2, 4, 8, …, or a function of the step number.
        mode: `"greedy"`, `"maxprod"` or both; and with them `"entropy"`, `"abs-sum"`.
        probe: function that computes the loss of a fixed probe batch; it runs with random state, buffers and gradients
            put back afterwards.
        batches: `"training"`, `"probe"` or both.
        on_error: `"raise"`, or `"warn"`: training goes on with its gradients untouched, and a warning says what failed.
        top_routes, probe_budget, scalar_budget, batch_size: as for `trace`.
        watch: names of parameters whose path is stored in full at every step.
        start: number of the first step.
        blocked: components through which no gradient is to pass, at any step, traced or not (see `blocked`). All steps are then
            recorded with traceable kernels, and `on_error="warn"` does not cover a component that is not there.
        granularity, graph_budget: as for `trace`; `"scalar"` puts the scalar graph of each traced batch into the step. A step
            beyond the budget is not traced, and nothing of it goes to the sink.

    >>> with Tracer(model, sink=sink, every=10, run="lstm-1") as tracer:
    ...     for x, y in batches:
    ...         with tracer.step() as step:
    ...             step.backward(loss_fn(model(x), y))
    ...         optimizer.step()
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sink: Sink | None = None,
        run: str = "run",
        every: Schedule = 10,
        mode: Modes = "greedy",
        probe: Callable[[], torch.Tensor] | None = None,
        batches: Sequence[str] = ("training",),
        on_error: str = "raise",
        top_routes: int = 20,
        watch: Sequence[str] = (),
        probe_budget: int = 4096,
        scalar_budget: int = 2**31 - 2,
        batch_size: int | None = None,
        start: int = 0,
        blocked: Sequence[str] = (),
        granularity: str = "operator",
        graph_budget: int = GRAPH_BUDGET,
    ) -> None:
        traced = check_model(model)
        assert traced is not None  # a Tracer has a model
        if on_error not in ("raise", "warn"):
            raise TraceError(f"on_error is 'raise' or 'warn', not {on_error!r}.")
        if not batches or any(b not in BATCHES for b in batches):
            raise TraceError(f"batches are 'training', 'probe' or both, not {tuple(batches)!r}.")
        if "probe" in batches and probe is None:
            raise TraceError("Tracing the probe batch needs probe=: a function that computes its loss.")
        self.model, self.sink, self.run, self.on_error = traced, sink, run, on_error
        self.modes = check_modes(mode)
        if not any(m in MODES for m in self.modes):
            raise TraceError(
                f"Mode {self.modes[0]!r} goes with one that follows paths: mode=('greedy', {self.modes[0]!r})."
            )
        self.blocked = tuple(blocked) if not isinstance(blocked, str) else (blocked,)
        check_blocked_modes(self.blocked, self.modes)
        check_granularity(granularity)
        self._graph_budget = graph_budget if granularity == "scalar" else None
        self.batches = tuple(b for b in BATCHES if b in batches)
        self.step_number = start
        self.watch = tuple(watch)
        self._check_watched()
        self._due = schedule(every)
        self._probe = probe
        self._options = Options(needs_weights(self.modes), probe_budget, scalar_budget)
        self._top_routes, self._batch_size = top_routes, batch_size
        self.plans = Plans()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.sink is not None:
            self.sink.flush()

    def _check_watched(self) -> None:
        names = {name for name, _ in self.model.named_parameters()}
        unknown = [name for name in self.watch if name not in names]
        if unknown:
            raise TraceError(f"No parameter is called {unknown[0]!r}; there are: {', '.join(sorted(names)) or 'none'}.")

    @contextmanager
    def step(self, epoch: int = 0) -> Iterator[Step]:
        """One training step: compute the loss inside, and call `step.backward(loss)`."""
        step = Step(self, self.step_number, epoch, self._due(self.step_number))
        with ExitStack() as stack:
            if step.traced or self.blocked:
                stack.enter_context(traceable_kernels())
                if "training" in self.batches or self.blocked:
                    stack.enter_context(watch_modules(self.model))
            yield step
        self.step_number += 1

    @contextmanager
    def blocking(self, loss: torch.Tensor) -> Iterator[None]:
        """Around a backward of the training loss (called by `Step.backward`)."""
        if not self.blocked:
            yield
            return
        check_loss(loss)
        with blocking(loss, recorded(), self.model, self.plans, self._options, self.blocked):
            yield

    @collector_paused()
    def run_traced(self, step: Step, loss: torch.Tensor, scaled: torch.Tensor, scale: float) -> None:
        """Backward of a traced step (called by `Step.backward`)."""
        state = _Backward(scaled)
        try:
            if "training" in self.batches:
                check_loss(loss)
                held = backward(
                    loss,
                    recorded(),
                    self.model,
                    self._options,
                    self.plans,
                    state.run,
                    self.blocked,
                    self._graph_budget,
                )
                step.traces["training"] = finish(
                    held, scaled, self.modes, self._top_routes, scale, self._batch_size, "training"
                )
            state.run()
            if "probe" in self.batches:
                step.traces["probe"] = self._trace_probe()
            step.trace = StepTrace(
                run=self.run,
                step=step.number,
                epoch=step.epoch,
                loss=float(loss.detach()),
                traces=tuple(t.batch_trace(m) for t in step.traces.values() for m in t.modes if m in MODES),
                spreads=tuple(t.spread_trace(m) for t in step.traces.values() for m in t.modes if m in SPREAD_MODES),
                watched=self.watch,
                notes=tuple(note for t in step.traces.values() for note in t.notes),
                scalars=tuple(t.scalar_trace() for t in step.traces.values()) if self._graph_budget is not None else (),
            )
            if self.sink is not None:
                self.sink.write(step.trace)
        except Exception as error:
            if self.on_error == "raise":
                raise
            state.run()
            step.traced, step.trace = False, None
            warnings.warn(
                f"Step {step.number} of run {self.run} was not traced; training goes on. {type(error).__name__}: {error}",
                stacklevel=4,
            )

    def rehearse(self, loss: Callable[[], torch.Tensor]) -> None:
        """Try out before the first step whether the scalar graph of a loss is within the budget; at other granularities do
        nothing. Gradients, buffers and random states stay as they are.

        What else is wrong with the loss is left to its first traced step, which `on_error` covers.

        Raises:
            BudgetError: with the graph's size and what to do.
        """
        if self._graph_budget is None:
            return
        try:
            self._capture_aside(loss)
        except BudgetError:
            raise
        except GradtraceError:
            return

    def _trace_probe(self) -> Trace:
        assert self._probe is not None  # checked on construction
        held, loss = self._capture_aside(self._probe)
        return finish(held, loss, self.modes, self._top_routes, 1.0, None, "probe")

    def _capture_aside(self, function: Callable[[], torch.Tensor]) -> tuple[Captured, torch.Tensor]:
        """Forward and backward of a loss; everything that they may change is put back."""
        with untouched(self.model):
            loss, marks = record(function, self.model)
            check_loss(loss)
            with blocking(loss, marks, self.model, self.plans, self._options, self.blocked):
                held = backward(
                    loss, marks, self.model, self._options, self.plans, None, self.blocked, self._graph_budget
                )
        return held, loss


class _Backward:
    """A backward that runs once, however often it is asked for."""

    def __init__(self, loss: torch.Tensor) -> None:
        self._loss, self._done = loss, False

    def run(self) -> None:
        if not self._done:
            self._done = True
            self._loss.backward()


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put buffers and random states (torch, CUDA, numpy, Python) back on leaving."""
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    python, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def schedule(every: Schedule) -> Callable[[int], bool]:
    """Which steps are traced, as a function of the step number."""
    if callable(every):
        return every
    if every == "log":
        return lambda step: step & (step - 1) == 0
    if isinstance(every, int) and not isinstance(every, bool) and every >= 1:
        return lambda step: step % every == 0
    raise TraceError(f"every is a number of steps ≥ 1, 'log', or a function of the step number, not {every!r}.")
