"""Runs one spec: trains its workload, has every n-th step traced, and hands the traces to a sink.

`run` is a function of its spec: with the same spec, thread count and versions it makes the same weights and the same
traces, bit for bit. It seeds the global random states of torch, numpy and Python.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from gradtrace.service.log import about
from gradtrace.service.segments import Progress as Progress
from gradtrace.service.segments import Training, threads
from gradtrace.service.segments import build as build
from gradtrace.service.spec import RunSpec
from gradtrace.service.spec import new_run_id as new_run_id
from gradtrace.service.workloads.instance import WorkloadInstance
from gradtrace.tracer.sinks.protocol import Sink, note_held_out


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        run: its id.
        status: `"FINISHED"`, `"INTERRUPTED"` or `"FAILED"` (by the `non_finite="stop"` policy).
        reason: why it did not finish, or None.
        steps: optimizer steps taken.
        traced: steps that were traced and handed to the sink.
        stored: steps that the sink says are durable.
        losses: training loss of every step.
        epoch_steps: steps in an epoch.
        before: held-out metrics before training.
        after: held-out metrics after it.
        seconds: wall time of training, tracing and handing over.
        notes: what the tracer had to say about its steps, each once.
    """

    run: str
    status: str
    reason: str | None
    steps: int
    traced: int
    stored: int
    losses: tuple[float, ...]
    epoch_steps: int
    before: dict[str, float]
    after: dict[str, float]
    seconds: float
    notes: tuple[str, ...]

    @property
    def epoch_losses(self) -> list[float]:
        """Mean training loss of each epoch, the last one perhaps in part."""
        size = self.epoch_steps
        parts = [self.losses[i : i + size] for i in range(0, len(self.losses), size)]
        return [sum(part) / len(part) for part in parts]


@dataclass(slots=True)
class RunHooks:
    """What the caller wants to be told, and may ask.

    Attributes:
        on_start: called once with the run's id, the built workload and the number of steps, before the first step.
        on_progress: called after every step.
        stop: asked before every step; True ends the run as INTERRUPTED.
    """

    on_start: Callable[[str, WorkloadInstance, int], None] | None = None
    on_progress: Callable[[Progress], None] | None = None
    stop: Callable[[], bool] | None = None


def run(spec: RunSpec, sink: Sink, *, run_id: str | None = None, hooks: RunHooks | None = None) -> RunResult:
    """Train the spec's workload and hand its traced steps to `sink`, which stays open.

    A KeyboardInterrupt drops the step in work; like `hooks.stop`, it ends the run as INTERRUPTED, with all steps handed
    over so far durable. Any other exception marks the run FAILED with its reason and is raised again.

    Args:
        spec: what to do.
        sink: where the traced steps go.
        run_id: id of the run; a new one if None.
        hooks: whom to tell.

    Returns:
        How it ended.

    Raises:
        SpecError: the workload refuses its parameters, or has no parameter of a watched name.

    Example:
        >>> from gradtrace.service.spec import spec_from_text
        >>> from gradtrace.tracer.sinks import MemorySink
        >>> result = run(spec_from_text("digits-mlp", {"steps": "3"}, every=2), MemorySink())
        >>> result.status, result.steps, result.traced
        ('FINISHED', 3, 2)
    """
    hooks = hooks or RunHooks()
    run_id = run_id or new_run_id(spec.workload)
    with about(run=run_id), threads(spec.threads):
        training = Training(spec, sink, run_id)
        sink.open_run(training.record)
        try:
            return _train(training, hooks)
        except BaseException as error:
            # The error is what the caller must see, even if the sink cannot even take the word that the run failed.
            status = "INTERRUPTED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            with contextlib.suppress(Exception):
                sink.close_run(run_id, status, f"{type(error).__name__}: {error}")
            raise


def _train(training: Training, hooks: RunHooks) -> RunResult:
    """The whole run as one segment."""
    sink, instance, run_id = training.sink, training.instance, training.record.id
    already = sink.flush()  # a sink may hold other runs' steps
    before = instance.evaluate()
    if hooks.on_start:
        hooks.on_start(run_id, instance, training.steps)
    started = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        training.advance(hooks.stop, hooks.on_progress)
    if training.failure:
        status, reason = "FAILED", training.failure
    elif not training.over:
        status, reason = "INTERRUPTED", f"interrupted after {training.done} of {training.steps} steps"
    else:
        status, reason = "FINISHED", None
    stored = sink.flush() - already
    after = instance.evaluate()
    note_held_out(sink, run_id, after)
    sink.close_run(run_id, status, reason)
    return RunResult(
        run=run_id,
        status=status,
        reason=reason,
        steps=training.done,
        traced=training.traced,
        stored=stored,
        losses=tuple(training.losses),
        epoch_steps=len(training.batches),
        before=before,
        after=after,
        seconds=time.monotonic() - started,
        notes=tuple(training.notes),
    )
