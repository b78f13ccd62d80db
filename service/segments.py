"""Training in segments: a bounded number of steps from a checkpoint (or from the start) on.

In whatever segments a run is trained, and in whatever processes, the same steps happen with the same bits, as long as the
thread count is the same. `gradtrace run` is one segment without an end; a worker's segment ends with a checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gradtrace.service import checkpoint, metrics
from gradtrace.service.checkpoint import Position
from gradtrace.service.log import at_step
from gradtrace.service.spec import RunSpec
from gradtrace.service.suggest import choices
from gradtrace.service.workloads.instance import Batch, WorkloadInstance
from gradtrace.service.workloads.registry import find
from gradtrace.tracer import Tracer, blocked
from gradtrace.tracer.errors import ComponentError, SpecError
from gradtrace.tracer.loop import untouched
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


def build(spec: RunSpec) -> WorkloadInstance:
    """Seed the global random states and build the spec's workload."""
    seed = spec.parameters.seed
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return find(spec.workload).build(spec.parameters)


class Training:
    """One run in work, between two steps. Make it inside `threads(spec.threads)`, and use it there.

    Attributes:
        record: the run, as sinks are told of it.
        instance: the built workload.
        steps: optimizer steps of the whole run.
        done: optimizer steps taken, in this segment and before.
        traced: of these, traced ones.
        losses: training losses of this segment's steps.
        notes: what the tracer had to say about this segment's steps, each once, in order.
        failure: why the non-finite policy ended the run, or None.

    Raises:
        SpecError: the workload refuses its parameters, or has no parameter of a watched name or no component to be blocked.
        CheckpointError: the checkpoint is not this run's, or is damaged.
        BudgetError: at scalar granularity, a batch's scalar graph is larger than the spec allows.
    """

    def __init__(self, spec: RunSpec, sink: Sink, run: str, *, start: Path | None = None) -> None:
        self.spec, self.sink = spec, sink
        self.record = RunRecord(run, spec.workload, spec.experiment, spec.record_parameters(), spec.modes)
        self.instance = build(spec)
        _check_watched(spec, self.instance)
        check_blocked(spec, self.instance)
        self.batches = self.instance.batches
        whole = spec.parameters.epochs * len(self.batches)
        self.steps = min(whole, spec.parameters.steps or whole)
        self.done = self.traced = 0
        self.losses: list[float] = []
        self.notes: dict[str, None] = {}
        self.failure: str | None = None
        if start is not None:
            position = checkpoint.load(start, run, spec, self.instance)
            self.done, self.traced = position.step, position.traced
            # The rounding of sums depends on it, so a run keeps the count with which it began.
            torch.set_num_threads(position.threads)
        instance = self.instance
        # A batch's probe and the training loss are one function, so that their traces can be compared.
        self.tracer = Tracer(
            instance.model,
            run=run,
            every=spec.traces,
            mode=spec.modes,
            probe=(lambda: instance.loss(instance.probe)) if "probe" in spec.batch_names else None,
            batches=spec.batch_names,
            on_error=spec.on_error,
            top_routes=spec.top_routes,
            watch=spec.watch,
            batch_size=instance.batches.batch_size,
            start=self.done,
            blocked=spec.blocked,
            granularity=spec.granularity,
            graph_budget=spec.graph_budget,
        )
        # Before the run is announced: what its first step would be refused for is to leave nothing behind.
        if "training" in spec.batch_names:
            self.tracer.rehearse(lambda: instance.loss(self.batches.batch(0, 0)))
        if "probe" in spec.batch_names:
            self.tracer.rehearse(lambda: instance.loss(instance.probe))

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.done >= self.steps or self.failure is not None

    def advance(
        self, stop: Callable[[], bool] | None = None, progress: Callable[[Progress], None] | None = None
    ) -> None:
        """Train until `stop`, asked before every step, says yes, or the run is over.

        Args:
            stop: whether to stop at this step's border.
            progress: told after every step.
        """
        order, of_epoch = None, -1
        with traceable_kernels() if self.spec.kernels == "traceable" else contextlib.nullcontext():
            while not self.over:
                if stop is not None and stop():
                    return
                epoch, index = divmod(self.done, len(self.batches))
                if epoch != of_epoch:
                    order, of_epoch = self.batches.order(epoch), epoch
                loss = self._step(epoch, self.batches.batch(epoch, index, order))
                self.losses.append(loss)
                self.done += 1
                if self.spec.non_finite == "stop" and not math.isfinite(loss):
                    self.failure = f"the loss became {loss} at step {self.done - 1} (policy non_finite=stop)"
                if progress is not None:
                    progress(self._progress(epoch, loss))

    def save(self, path: Path) -> None:
        """Write a checkpoint of where the run stands. The caller sees to it that the sink was flushed before.

        Raises:
            CheckpointError: it cannot be written.
        """
        position = Position(self.done, self.traced, torch.get_num_threads())
        checkpoint.save(path, self.record.id, self.spec, self.instance, position)

    def _step(self, epoch: int, batch: Batch) -> float:
        """One optimizer step; returns its loss."""
        instance, scaler = self.instance, self.instance.scaler
        at_step(self.done)
        instance.optimizer.zero_grad(set_to_none=True)
        with self.tracer.step(epoch=epoch) as step:
            loss = instance.loss(batch)
            step.backward(loss, scaler)
        if scaler is None:
            instance.optimizer.step()
        else:
            scaler.step(instance.optimizer)
            scaler.update()
        if instance.scheduler is not None:
            instance.scheduler.step()
        if step.trace is not None:
            # Not by the tracer: a step that cannot be stored is no matter of `on_error`, it must not be lost in silence.
            self.sink.write(step.trace)
            self.traced += 1
            self.notes.update(dict.fromkeys(step.trace.notes))
        metrics.count_step(step.trace is not None)
        return float(loss.detach())

    def _progress(self, epoch: int, loss: float) -> Progress:
        return Progress(
            run=self.record.id,
            done=self.done,
            steps=self.steps,
            epoch=epoch,
            epochs=self.spec.parameters.epochs,
            loss=loss,
            traced=self.traced,
        )


def _check_watched(spec: RunSpec, instance: WorkloadInstance) -> None:
    known = [name for name, _ in instance.model.named_parameters()]
    for name in spec.watch:
        if name not in known:
            raise SpecError(f"There is no parameter {name!r} to watch. {choices(name, known, 'Parameters')}")


def check_blocked(spec: RunSpec, instance: WorkloadInstance) -> None:
    """Look for the blocked components in a forward pass, before the first step.

    Raises:
        SpecError: the spec's workload has no such component, or one that cannot be blocked.
    """
    if not spec.blocked:
        return
    try:
        with untouched(instance.model), blocked(instance.model, *spec.blocked) as block:
            block(instance.loss(instance.probe))
    except ComponentError as error:
        raise SpecError(f"{spec.workload} cannot be trained with {'+'.join(spec.blocked)} blocked: {error}") from None


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set torch's thread count, and put the old one back."""
    old = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(old)
