"""What the store holds while questions are asked: runs of every odd kind at once, as plain StepTraces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from gradtrace.tracer.component_names import ROOT
from gradtrace.tracer.graph import Graph, components_from_paths
from gradtrace.tracer.steptrace import BatchTrace, RunRecord, StepTrace
from tests.synthetic import run_record, step_trace


@dataclass(frozen=True)
class Run:
    """A run with its steps; `status` None leaves it open, as a killed one."""

    record: RunRecord
    steps: tuple[StepTrace, ...]
    status: str | None = "FINISHED"
    reason: str | None = None


CROWD = "crowd"
"""Experiment of runs that differ by seed and learning rate, for the questions about many runs."""

UNICODE = "läuf \"π\" 'x' `y` \\u0041 // 😀"


@cache
def all_runs() -> dict[str, Run]:
    """Every run by its id, in the order in which they are announced."""
    made = [
        Run(
            run_record("plain", lr=0.1),
            tuple(step_trace("plain", s, epoch=s // 5, novelty=0.3) for s in range(14)),
        ),
        Run(  # both modes, both batches, unfinished, and a step here and there that lacks some of them
            run_record("mixed", workload="mlp", experiment="trial", modes=("greedy", "maxprod")),
            tuple(_mixed(s) for s in range(0, 60, 10)),
            status=None,
        ),
        Run(  # the last batch of each epoch is smaller, and the model grows in the second epoch
            run_record("graphs", experiment="trial", seed=1, lr=0.01),
            tuple(_other_graphs(s) for s in range(12)),
            status="FAILED",
            reason="poisoned",
        ),
        Run(
            run_record(UNICODE, workload="Wörk", experiment="实验", schedule="ко́с"),
            tuple(renamed(step_trace(UNICODE, s, epoch=s // 2, novelty=0.3), _unicode) for s in range(4)),
        ),
        *_crowd(),
        Run(run_record("one-step"), (step_trace("one-step", 0),), status="INTERRUPTED", reason="Ctrl-C"),
        Run(  # only the probe batch is traced, and a parameter dies and comes back
            run_record("probe-only", modes=("maxprod",)),
            tuple(
                dying(step_trace("probe-only", s, modes=("maxprod",), batches=("probe",), novelty=0.3), 2 <= s < 4)
                for s in range(6)
            ),
        ),
        Run(run_record("no-steps"), (), status="FAILED", reason="out of memory"),
    ]
    return {run.record.id: run for run in made}


def _crowd() -> list[Run]:
    """Two learning rates, three seeds each; the last one failed, and one stands alone with a schedule of its own."""
    made = []
    for number, (lr, seed, schedule) in enumerate(
        [(lr, seed, "cosine") for lr in (0.1, 0.03) for seed in range(3)] + [(0.1, 0, "step")]
    ):
        name = f"crowd-{number}"
        record = run_record(name, experiment=CROWD, lr=lr, seed=seed, schedule=schedule)
        steps = tuple(step_trace(name, s, epoch=s // 2, seed=number % 2, novelty=0.3) for s in range(6))
        failed = number == 5
        made.append(Run(record, steps, "FAILED" if failed else "FINISHED", "diverged" if failed else None))
    return made


def _mixed(step: int) -> StepTrace:
    modes = ("greedy",) if step == 50 else ("greedy", "maxprod")
    batches = ("training",) if step == 20 else ("training", "probe")
    more = {"watched": ("embed.p0",), "scalars": step != 30}
    return step_trace("mixed", step, epoch=step // 30, modes=modes, batches=batches, novelty=0.3, **more)


def _other_graphs(step: int) -> StepTrace:
    epoch = step // 6
    made = step_trace("graphs", step, epoch=epoch, vertices=40 if epoch == 0 else 52, novelty=0.3)
    return smaller_batch(made) if step % 6 == 5 else made


def smaller_batch(step: StepTrace) -> StepTrace:
    """The same step on a batch of 5 examples: equal names, other shapes, hence another graph."""

    def change(graph: Graph) -> Graph:
        vertices = (replace(v, shape=(5, *v.shape[1:])) if v.op and v.shape else v for v in graph.vertices)
        return replace(graph, vertices=tuple(vertices))

    return replace(step, traces=tuple(replace(t, graph=change(t.graph)) for t in step.traces))


def dying(step: StepTrace, dead: bool) -> StepTrace:
    """The same step, with the strongest path of the first parameter taken away if `dead`."""
    if not dead:
        return step

    def change(trace: BatchTrace) -> BatchTrace:
        first, *rest = trace.parameters
        return replace(trace, parameters=(replace(first, strongest=None), *rest))

    return replace(step, traces=tuple(change(t) for t in step.traces))


def renamed(step: StepTrace, name: Callable[[str], str]) -> StepTrace:
    """The same step with every component path and parameter name put through `name`."""

    def path(p: str | None) -> str | None:
        return p if p is None or p == ROOT else name(p)

    def token(t: str) -> str:
        return t if t in ("(", ")+") else name(t[:-1]) + "+" if t.endswith("+") else (path(t) or "")

    def graph(g: Graph) -> Graph:
        roles = {path(c.path) or "": c.role for c in g.components if c.path != ROOT}
        vertices = (replace(v, name=name(v.name), component=path(v.component)) for v in g.vertices)
        return replace(g, vertices=tuple(vertices), components=components_from_paths(roles))

    def trace(t: BatchTrace) -> BatchTrace:
        routes = (
            replace(
                r,
                parameter=r.parameter if r.parameter == "*" else name(r.parameter),
                route=None if r.route is None else tuple(token(x) for x in r.route),
            )
            for r in t.routes
        )
        return replace(
            t,
            graph=graph(t.graph),
            parameters=tuple(replace(p, parameter=name(p.parameter)) for p in t.parameters),
            components=tuple(replace(c, component=path(c.component) or "") for c in t.components),
            routes=tuple(routes),
        )

    return replace(step, traces=tuple(trace(t) for t in step.traces))


_NAMES = {"head": "köpf 'x\"", "rnn": "рнн`", "embed": "埋め込み", "layers": "läyers$run", "carry": "🚚"}


def _unicode(text: str) -> str:
    for old, new in _NAMES.items():
        text = text.replace(old, new)
    return text
