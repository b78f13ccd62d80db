"""Runs one spec: trains its workload, has every n-th step traced, and hands the traces to a sink.

`run` is a function of its spec: with the same spec, thread count and versions it makes the same weights and the same
traces, bit for bit. It seeds the global random states of torch, numpy and Python.
"""

from __future__ import annotations

import contextlib
import math
import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gradtrace.service.spec import RunSpec
from gradtrace.service.suggest import choices
from gradtrace.service.workloads.instance import Batch, WorkloadInstance
from gradtrace.service.workloads.registry import find
from gradtrace.tracer import Tracer
from gradtrace.tracer.errors import SpecError
from gradtrace.tracer.recording import traceable_kernels
from gradtrace.tracer.sinks.protocol import Sink
from gradtrace.tracer.steptrace import RunRecord


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: `done` of `steps` optimizer steps are over, `traced` of them traced; `loss` is the last one's."""

    run: str
    done: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    traced: int


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


def new_run_id(workload: str) -> str:
    """A new id: workload, second (UTC) and four hex digits (`"char-lstm-20261123-231501-7f3a"`)."""
    return f"{workload}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def build(spec: RunSpec) -> WorkloadInstance:
    """Seed the global random states and build the spec's workload."""
    seed = spec.parameters.seed
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return find(spec.workload).build(spec.parameters)


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
    with _threads(spec.threads):
        instance = build(spec)
        _check_watched(spec, instance)
        record = RunRecord(run_id, spec.workload, spec.experiment, spec.record_parameters(), spec.modes)
        sink.open_run(record)
        try:
            return _Loop(spec, sink, record, instance, hooks).run()
        except BaseException as error:
            # The error is what the caller must see, even if the sink cannot even take the word that the run failed.
            status = "INTERRUPTED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            with contextlib.suppress(Exception):
                sink.close_run(run_id, status, f"{type(error).__name__}: {error}")
            raise


def _check_watched(spec: RunSpec, instance: WorkloadInstance) -> None:
    known = [name for name, _ in instance.model.named_parameters()]
    for name in spec.watch:
        if name not in known:
            raise SpecError(f"There is no parameter {name!r} to watch. {choices(name, known, 'Parameters')}")


class _Loop:
    """The training loop of one run."""

    def __init__(
        self, spec: RunSpec, sink: Sink, record: RunRecord, instance: WorkloadInstance, hooks: RunHooks
    ) -> None:
        self.spec, self.sink, self.record, self.instance, self.hooks = spec, sink, record, instance, hooks
        self.batches = instance.batches
        whole = spec.parameters.epochs * len(self.batches)
        self.steps = min(whole, spec.parameters.steps or whole)
        self.losses: list[float] = []
        self.already = sink.flush()  # a sink may hold other runs' steps
        self.traced = 0
        self.notes: dict[str, None] = {}  # in order, each once
        # A batch's probe and the training loss are one function, so that their traces can be compared.
        self.tracer = Tracer(
            instance.model,
            sink=sink,
            run=record.id,
            every=spec.traces,
            mode=spec.modes,
            probe=(lambda: instance.loss(instance.probe)) if "probe" in spec.batch_names else None,
            batches=spec.batch_names,
            on_error=spec.on_error,
            top_routes=spec.top_routes,
            watch=spec.watch,
            batch_size=instance.batches.batch_size,
        )

    def run(self) -> RunResult:
        before = self.instance.evaluate()
        if self.hooks.on_start:
            self.hooks.on_start(self.record.id, self.instance, self.steps)
        started = time.monotonic()
        status, reason = "FINISHED", None
        try:
            with traceable_kernels() if self.spec.kernels == "traceable" else contextlib.nullcontext():
                reason = self._train()
            if reason:
                status = "FAILED"
        except (KeyboardInterrupt, _StoppedError):
            status, reason = "INTERRUPTED", f"interrupted after {len(self.losses)} of {self.steps} steps"
        stored = self.sink.flush() - self.already
        self.sink.close_run(self.record.id, status, reason)
        return RunResult(
            run=self.record.id,
            status=status,
            reason=reason,
            steps=len(self.losses),
            traced=self.traced,
            stored=stored,
            losses=tuple(self.losses),
            epoch_steps=len(self.batches),
            before=before,
            after=self.instance.evaluate(),
            seconds=time.monotonic() - started,
            notes=tuple(self.notes),
        )

    def _train(self) -> str | None:
        """All steps; returns why the non-finite policy ended them early, or None."""
        order = None
        for number in range(self.steps):
            if self.hooks.stop and self.hooks.stop():
                raise _StoppedError
            epoch, index = divmod(number, len(self.batches))
            if index == 0 or order is None:
                order = self.batches.order(epoch)
            loss = self._step(epoch, self.batches.batch(epoch, index, order))
            self.losses.append(loss)
            if self.hooks.on_progress:
                self.hooks.on_progress(
                    Progress(
                        run=self.record.id,
                        done=number + 1,
                        steps=self.steps,
                        epoch=epoch,
                        epochs=self.spec.parameters.epochs,
                        loss=loss,
                        traced=self.traced,
                    )
                )
            if self.spec.non_finite == "stop" and not math.isfinite(loss):
                return f"the loss became {loss} at step {number} (policy non_finite=stop)"
        return None

    def _step(self, epoch: int, batch: Batch) -> float:
        """One optimizer step; returns its loss."""
        instance = self.instance
        instance.optimizer.zero_grad(set_to_none=True)
        with self.tracer.step(epoch=epoch) as step:
            loss = instance.loss(batch)
            step.backward(loss)
        instance.optimizer.step()
        if step.trace is not None:
            self.traced += 1
            self.notes.update(dict.fromkeys(step.trace.notes))
        return float(loss.detach())


class _StoppedError(Exception):
    """`hooks.stop` said so."""


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set torch's thread count, and put the old one back."""
    old = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(old)
