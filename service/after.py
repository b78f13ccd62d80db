"""After the fact: trace a model at the checkpoints that were saved while it was trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradtrace.service.log import about
from gradtrace.service.saved_weights import check_fits, saved_in
from gradtrace.service.segments import build, threads
from gradtrace.service.spec import RunSpec
from gradtrace.tracer import Tracer
from gradtrace.tracer.sinks.protocol import Sink
from gradtrace.tracer.steptrace import RunRecord


@dataclass(frozen=True, slots=True)
class Looked:
    """One checkpoint that was traced: its file, step, epoch and loss, and whether NaN or ±inf was met."""

    file: str
    step: int
    epoch: int
    loss: float
    non_finite: bool


def run_id(folder: Path, spec: RunSpec) -> str:
    """Id of the run that a folder and a spec make: always the same, so that nothing is stored twice."""
    text = f"{folder.resolve()}\n{spec.identity}"
    return f"{spec.workload}-after-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def trace_checkpoints(
    folder: Path, spec: RunSpec, sink: Sink, *, run: str | None = None, progress: Callable[[Looked], None] | None = None
) -> list[Looked]:
    """Trace the spec's workload with the weights of every checkpoint in a folder, as one run.

    The batch is the same for all: the workload's first training batch, its probe batch, or both, as the spec says. Nothing is
    trained, and steps that the sink's store has already stay as they are.

    Args:
        folder: where the checkpoints lie.
        spec: what to build, and what to trace of it.
        sink: where the traced steps go; stays open.
        run: id of the run; `run_id(folder, spec)` if None.
        progress: called after each checkpoint.

    Raises:
        CheckpointError: a file is torn, of no step, or of another model; nothing was written then.
        BudgetError: the scalar graph is larger than the spec allows; nothing was written then.
    """
    run = run or run_id(folder, spec)
    with about(run=run), threads(spec.threads):
        instance = build(spec)
        batch = instance.batches.batch(0, 0)
        losses = {
            "training": lambda: instance.loss(batch),
            "probe": lambda: instance.loss(instance.probe),
        }
        losses = {name: losses[name] for name in spec.batch_names}
        tracer = Tracer(
            instance.model,
            run=run,
            every=1,
            mode=spec.modes,
            batches=spec.batch_names,
            probe=losses.get("probe"),
            top_routes=spec.top_routes,
            watch=spec.watch,
            batch_size=instance.batches.batch_size,
            granularity=spec.granularity,
            graph_budget=spec.graph_budget,
        )
        parameters = {**spec.record_parameters(), "checkpoints": str(folder)}
        record = RunRecord(run, spec.workload, spec.experiment, parameters, spec.modes)
        return _trace_each(folder, instance.model, tracer, losses, record, sink, spec.parameters.seed, progress)


def trace_saved(
    folder: Path,
    make_model: Callable[[], nn.Module],
    loss: Callable[[nn.Module, Any], Tensor],
    batch: Any,
    sink: Sink,
    *,
    run: str,
    name: str,
    experiment: str = "default",
    seed: int = 0,
    progress: Callable[[Looked], None] | None = None,
    **options: Any,
) -> list[Looked]:
    """Trace a model of your own with the weights of every checkpoint in a folder, on one batch, as one run.

    Args:
        folder: where the checkpoints lie.
        make_model: builds the model; its weights are then those of each checkpoint.
        loss: the scalar loss of (the model, `batch`).
        batch: the same for all checkpoints.
        sink: where the traced steps go; stays open.
        run: id of the run.
        name: what the run is listed under, where runs of a workload have the workload's name.
        experiment: name of the group of runs.
        seed: of PyTorch's random numbers at each checkpoint, so that dropout is the same at all.
        progress: called after each checkpoint.
        options: more arguments of `Tracer`, such as `mode`, `watch` and `batch_size`.

    Raises:
        CheckpointError: a file is torn, of no step, or of another model; nothing was written then.
        BudgetError: the scalar graph is larger than the options allow; nothing was written then.

    Example:
        >>> trace_saved(                                                        # doctest: +SKIP
        ...     Path("checkpoints"), MyNet, lambda model, batch: cross_entropy(model(batch[0]), batch[1]), (x, y), sink,
        ...     run="my-net-1", name="my-net", mode=("greedy", "maxprod"),
        ... )
    """
    with about(run=run):
        torch.manual_seed(seed)
        model = make_model()
        tracer = Tracer(model, run=run, every=1, **options)
        record = RunRecord(run, name, experiment, {"seed": seed, "checkpoints": str(folder)}, tracer.modes)
        return _trace_each(
            folder, model, tracer, {"training": lambda: loss(model, batch)}, record, sink, seed, progress
        )


def _trace_each(
    folder: Path,
    model: nn.Module,
    tracer: Tracer,
    losses: Mapping[str, Callable[[], Tensor]],
    record: RunRecord,
    sink: Sink,
    seed: int,
    progress: Callable[[Looked], None] | None,
) -> list[Looked]:
    found = saved_in(folder)
    for saved in found:
        check_fits(saved, model)
    for loss in losses.values():
        tracer.rehearse(loss)
    sink.open_run(record)
    looked = []
    for saved in found:
        model.load_state_dict(check_fits(saved, model))
        torch.manual_seed(seed)  # dropout, if any, is the same at each
        tracer.step_number = saved.step
        with tracer.step(epoch=saved.epoch) as step:
            step.backward(next(iter(losses.values()))())
        model.zero_grad(set_to_none=True)
        assert step.trace is not None  # every step is traced, and what cannot be raises
        sink.write(step.trace)
        looked.append(Looked(saved.path.name, saved.step, saved.epoch, step.trace.loss, step.trace.non_finite))
        if progress is not None:
            progress(looked[-1])
    sink.close_run(record.id, "FINISHED")
    return looked
