"""A callback for the Hugging Face Trainer: every n-th optimizer step is traced into a sink."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradtrace.tracer.adapters.foreign_loop import ForeignLoop, Scalar
from gradtrace.tracer.errors import TraceError
from gradtrace.tracer.loop import Step
from gradtrace.tracer.sinks.protocol import Sink

__all__ = ["GradtraceCallback"]

_TOLD = ("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "weight_decay", "seed")
"""Training arguments that become parameters of the run."""


class GradtraceCallback(TrainerCallback):
    """Traces the training of a model by `transformers.Trainer`. Steps are numbered by `state.global_step`.

    With gradient accumulation the first part of each batch is traced. The Trainer and accelerate scale the loss, even by
    one, so traces end in a division or product of no component. Used as a context manager the callback closes the run as
    FAILED where training raises, of which the Trainer tells no callback.

    Args:
        sink: takes the steps (`MemorySink`, `JsonlSink`, `gradtrace.service.store.Neo4jSink`); it stays open.
        run: id of the run; made from the model's class and the time if None.
        experiment: name under which runs are grouped.
        parameters: further hyperparameters of the run.
        options: of `gradtrace.tracer.Tracer` (`every`, `mode`, `watch`, ...); `on_error` is `"warn"` unless given.

    Raises:
        TraceError: when training starts with `fp16`, which scales the loss.

    Example:
        >>> with GradtraceCallback(MemorySink(), every=50) as callback:                    # doctest: +SKIP
        ...     Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
    """

    def __init__(
        self,
        sink: Sink,
        *,
        run: str | None = None,
        experiment: str = "default",
        parameters: Mapping[str, Scalar] | None = None,
        **options: Any,
    ) -> None:
        self._loop = ForeignLoop(sink, run, experiment, parameters, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if error is not None:
            self._loop.fail(error)

    @property
    def last(self) -> Step | None:
        """The last traced step."""
        return self._loop.last

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Announce the run."""
        if args.fp16:
            raise TraceError(
                "fp16=True multiplies the loss by a scale before its backward, so gradients would be stored scaled. Train "
                "with bf16=True or in full precision, or in a loop of your own with step.backward(loss, scaler)."
            )
        self._loop.start(kwargs["model"], {name: getattr(args, name) for name in _TOLD})

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin the step."""
        self._loop.begin(state.global_step, int(state.epoch or 0))

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the step: of an accumulated batch the first part was traced."""
        self._loop.end()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the step before the optimizer's."""
        self._loop.end()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the run."""
        self._loop.finish("FINISHED")
