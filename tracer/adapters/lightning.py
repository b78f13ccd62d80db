"""A callback for Lightning's Trainer: every n-th optimizer step is traced into a sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from gradtrace.tracer.adapters.foreign_loop import ForeignLoop, Scalar
from gradtrace.tracer.errors import TraceError
from gradtrace.tracer.loop import Step
from gradtrace.tracer.sinks.protocol import Sink

__all__ = ["GradtraceCallback"]


class GradtraceCallback(Callback):
    """Traces the training of a LightningModule. Steps are numbered by `trainer.global_step`.

    Works with automatic and manual optimization. With `accumulate_grad_batches` the first part of each batch is traced.
    The run's parameters are the module's `hparams`.

    Args:
        sink: takes the steps (`MemorySink`, `JsonlSink`, `gradtrace.service.store.Neo4jSink`); it stays open.
        run: id of the run; made from the module's class and the time if None.
        experiment: name under which runs are grouped.
        parameters: further hyperparameters of the run.
        options: of `gradtrace.tracer.Tracer` (`every`, `mode`, `watch`, ...); `on_error` is `"warn"` unless given.

    Raises:
        TraceError: when training starts in a precision that scales the loss (`16-mixed`).

    Example:
        >>> callback = GradtraceCallback(MemorySink(), every=50)                     # doctest: +SKIP
        >>> pl.Trainer(max_epochs=3, callbacks=[callback]).fit(module, loader)       # doctest: +SKIP
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

    @property
    def last(self) -> Step | None:
        """The last traced step."""
        return self._loop.last

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Announce the run."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise TraceError(
                f"Precision {trainer.precision} multiplies the loss by a scale before Lightning shows it, so gradients would "
                "be stored scaled. Train with precision='bf16-mixed' or '32-true', or in a loop of your own with "
                "step.backward(loss, scaler)."
            )
        self._loop.start(pl_module, dict(pl_module.hparams))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin the step, unless this batch is a further part of it."""
        self._loop.begin(trainer.global_step, trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the step."""
        self._loop.end()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the run."""
        if trainer.interrupted:
            self._loop.finish("INTERRUPTED", f"interrupted at step {trainer.global_step}")
        else:
            self._loop.finish("FINISHED")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the run with the reason."""
        self._loop.fail(exception)
