"""Tracing inside a training loop that is not ours: a framework's, which calls `loss.backward()` by itself."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gradtrace.tracer.loop import Step, Tracer
from gradtrace.tracer.sinks.protocol import Sink
from gradtrace.tracer.steptrace import RunRecord

Scalar = str | int | float | bool | None


class ForeignLoop:
    """Opens a run and its steps as a framework's callbacks tell, and traces the backward that the framework runs.

    The first `Tensor.backward` of a step becomes `Step.backward`; with gradient accumulation that is the first part of the
    batch, as in a loop of one's own. A backward with arguments (`create_graph`, `inputs`, ...) runs as it is, untraced.

    Args:
        sink: takes the steps; it stays open.
        run: id of the run; made from the model's class and the time if None.
        experiment: name under which runs are grouped.
        parameters: hyperparameters of the run; they go before those that the framework tells.
        options: of the `Tracer`; `on_error` is `"warn"` unless given.

    Attributes:
        tracer: the `Tracer` in force, once the run has begun.
        last: the last traced `Step`, or None.
    """

    def __init__(
        self,
        sink: Sink,
        run: str | None,
        experiment: str,
        parameters: Mapping[str, Scalar] | None,
        options: dict[str, Any],
    ) -> None:
        self._sink, self._run, self._experiment = sink, run, experiment
        self._parameters = dict(parameters or {})
        self._options = {"on_error": "warn", **options}
        self._open = ExitStack()
        self._number: int | None = None
        self.tracer: Tracer | None = None
        self.last: Step | None = None

    def start(self, model: nn.Module, parameters: Mapping[str, object]) -> None:
        """Announce the run. Of `parameters`, what is no plain number, word or None is left out."""
        name = type(model).__name__
        run = self._run or f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
        self.tracer = Tracer(model, sink=self._sink, run=run, **self._options)
        told = {k: v for k, v in parameters.items() if v is None or isinstance(v, str | int | float | bool)}
        record = RunRecord(run, name, self._experiment, {**told, **self._parameters}, self.tracer.modes)
        self._sink.open_run(record)

    def begin(self, number: int, epoch: int) -> None:
        """Enter step `number`, unless it is the one that is open: what follows is recorded until `end`."""
        tracer = self.tracer
        if tracer is None or self._number == number:
            return
        self.end()
        self._number = tracer.step_number = number
        step = self._open.enter_context(tracer.step(epoch))
        if step.traced:
            self.last = step
            self._open.enter_context(_FirstBackward(step))

    def end(self) -> None:
        """Leave the open step, if there is one. Its number stays known: further parts of it are not traced."""
        self._open.close()

    def finish(self, status: str, reason: str | None = None) -> None:
        """Close the run as FINISHED, INTERRUPTED or FAILED; once it is closed, further calls do nothing."""
        self.end()
        tracer, self.tracer, self._number = self.tracer, None, None
        if tracer is not None:
            self._sink.close_run(tracer.run, status, reason)

    def fail(self, error: BaseException) -> None:
        """Close the run as what this error makes of it."""
        status = "INTERRUPTED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        self.finish(status, f"{type(error).__name__}: {error}")


class _FirstBackward(TorchFunctionMode):
    """While it is in force, the first plain `Tensor.backward` of this thread is the step's."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self._step: Step | None = step

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        step = self._step
        if func is torch.Tensor.backward and step is not None:
            self._step = None
            if len(args) == 1 and not any(kwargs.values() if kwargs else ()):
                return step.backward(args[0])
        return func(*args, **(kwargs or {}))
