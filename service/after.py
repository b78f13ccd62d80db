"""After the fact: trace a model at the checkpoints that were saved while it was trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

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
        model = instance.model
        found = saved_in(folder)
        for saved in found:
            check_fits(saved, model)
        batch = instance.batches.batch(0, 0)
        tracer = Tracer(
            model,
            run=run,
            every=1,
            mode=spec.modes,
            batches=spec.batch_names,
            probe=(lambda: instance.loss(instance.probe)) if "probe" in spec.batch_names else None,
            top_routes=spec.top_routes,
            watch=spec.watch,
            batch_size=instance.batches.batch_size,
            granularity=spec.granularity,
            graph_budget=spec.graph_budget,
        )
        if "training" in spec.batch_names:
            tracer.rehearse(lambda: instance.loss(batch))
        if "probe" in spec.batch_names:
            tracer.rehearse(lambda: instance.loss(instance.probe))
        parameters = {**spec.record_parameters(), "checkpoints": str(folder)}
        sink.open_run(RunRecord(run, spec.workload, spec.experiment, parameters, spec.modes))
        looked = []
        for saved in found:
            model.load_state_dict(check_fits(saved, model))
            torch.manual_seed(spec.parameters.seed)  # dropout, if any, is the same at each
            tracer.step_number = saved.step
            with tracer.step(epoch=saved.epoch) as step:
                step.backward(instance.loss(batch if "training" in spec.batch_names else instance.probe))
            model.zero_grad(set_to_none=True)
            assert step.trace is not None  # every step is traced, and what cannot be raises
            sink.write(step.trace)
            looked.append(Looked(saved.path.name, saved.step, saved.epoch, step.trace.loss, step.trace.non_finite))
            if progress is not None:
                progress(looked[-1])
        sink.close_run(run, "FINISHED")
    return looked
