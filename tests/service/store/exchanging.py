"""Runs for the tests of export and import: everything that a store can hold of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gradtrace.service.local import ServerInfo
from gradtrace.service.store import Neo4jSink
from gradtrace.tracer.graph import Graph
from gradtrace.tracer.steptrace import BatchTrace, RunRecord, StepTrace
from tests.service.store.readback import address
from tests.synthetic import run_record, step_trace

RICH, PLAIN = "größe/Ω run:1", "plain-1"
VERTICES = 26


def rich_steps() -> Iterator[StepTrace]:
    """Two graphs a batch, two modes, two batches, sums over paths, watched parameters, what is not finite, scalar graphs."""
    for number in (0, 3, 6, 13, 27):
        step = step_trace(
            RICH,
            number,
            epoch=number // 10,
            vertices=VERTICES,
            parameters=11,
            modes=("greedy", "maxprod"),
            batches=("training", "probe"),
            structure=number % 2,
            novelty=0.5,
            spreads=("entropy", "abs-sum") if number else (),
            scalars=number == 6,
        )
        first = step.traces[0]
        weakest = min((p for p in first.parameters if p.strongest), key=lambda p: p.mass)
        step = replace(_renamed(step), watched=(weakest.parameter,))
        yield _tied(step) if number == 3 else step


def rich_record() -> RunRecord:
    """A run whose words and hyperparameters are not the usual ones."""
    record = run_record(RICH, workload="ein Modell", experiment="größer ✓", modes=("greedy", "maxprod", "entropy"))
    more = {"optimizer.lr": 1e-3, "huge": 2**70, "most": math.inf, "none": math.nan, "yes": True, "größe": "ß\n\t'\"\\"}
    return replace(record, parameters=record.parameters | more)


def fill_store(server: ServerInfo) -> None:
    """Store two runs, one with all there is and one that failed."""
    with Neo4jSink(*address(server)) as sink:
        sink.open_run(rich_record())
        for step in rich_steps():
            sink.write(step)
        sink.note_held_out(RICH, {"loss": 0.25, "accuracy": math.nan})
        sink.close_run(RICH, "FINISHED")
        sink.open_run(run_record(PLAIN))
        for number in range(4):
            sink.write(step_trace(PLAIN, number, vertices=20, epoch=number // 3))
        sink.close_run(PLAIN, "FAILED", "a line\nand another: ∞")


def _tied(step: StepTrace) -> StepTrace:
    """The step with parameters of equal mass, in another order than their vertices': which are the strongest depends on it."""

    def of(trace: BatchTrace) -> BatchTrace:
        return replace(trace, parameters=tuple(replace(p, mass=1.0) for p in reversed(trace.parameters)))

    return replace(step, traces=tuple(of(t) for t in step.traces))


def _renamed(step: StepTrace) -> StepTrace:
    """The step with a unicode name for the model; its graphs are others by it."""
    made: dict[str, Graph] = {}

    def of(graph: Graph) -> Graph:
        return made.setdefault(graph.fingerprint, replace(graph, name="Größe Ω"))

    return replace(
        step,
        traces=tuple(replace(t, graph=of(t.graph)) for t in step.traces),
        spreads=tuple(replace(t, graph=of(t.graph)) for t in step.spreads),
        scalars=tuple(replace(t, graph=of(t.graph)) for t in step.scalars),
    )
