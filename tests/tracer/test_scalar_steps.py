"""Scalar granularity in a training loop: what a sink is given, folded or not, and what the budget refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gradtrace.tracer import Tracer
from gradtrace.tracer.errors import BudgetError, TraceError
from gradtrace.tracer.fold import Folder
from gradtrace.tracer.sinks import JsonlSink, MemorySink, SeveralSinks, read_jsonl
from gradtrace.tracer.steptrace import StepTrace
from tests.problems.collection import by_name
from tests.same import plain, same
from tests.tracer.oracles import oracle_of
from tests.tracer.scalar_judging import assert_true

MODES = ("greedy", "maxprod")
LOSS = nn.CrossEntropyLoss()


def net() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(6, 4), torch.randint(3, (6,))


@pytest.mark.parametrize("name", ["net/mlp", "net/tied", "recurrent/lstm_cell", "move/index"])
def test_a_step_has_the_scalar_graph_of_each_batch_and_survives_a_file(name: str, tmp_path: Path) -> None:
    problem = by_name(name)
    model, closure = problem.make(0)
    memory, file = MemorySink(), JsonlSink(tmp_path / "steps.jsonl")
    tracer = Tracer(
        model,
        sink=SeveralSinks(memory, file),
        mode=MODES,
        probe=closure,
        batches=("training", "probe"),
        granularity="scalar",
    )
    with tracer.step() as step:
        step.backward(closure())
    file.close()
    (sent,) = memory.steps.values()
    (read,) = read_jsonl(tmp_path / "steps.jsonl").steps.values()
    assert [t.batch for t in read.scalars] == ["training", "probe"]
    assert same(read, plain([sent])[0])
    for found in read.scalars:
        assert found.graph is read.traces[0].graph  # the problem's probe batch is its training batch
        assert_true(found.scalars, found.graph, oracle_of(problem), MODES)


def test_a_folded_step_has_all_scalars_of_the_exact_one() -> None:
    problem = by_name("recurrent/lstm_two_layers_last")
    model, closure = problem.make(0)
    with Tracer(model, granularity="scalar").step() as step:
        step.backward(closure())
    exact = step.trace
    assert exact is not None
    folded = Folder("always").step(exact)
    (before,), (after,) = exact.scalars, folded.scalars
    assert after.graph is folded.traces[0].graph and after.graph.folded
    for at, (e, f) in enumerate(zip(before.scalars.edge, after.scalars.edge, strict=True)):
        edge, vertex = after.graph.edges[int(f)], after.scalars.vertex
        assert (vertex[after.scalars.source[at]], vertex[after.scalars.target[at]]) == (edge.source, edge.target)
        assert edge.slot == before.graph.edges[int(e)].slot
    for name in ("index", "output", "gradient", "source", "target", "weight"):
        assert same(getattr(before.scalars, name), getattr(after.scalars, name))
    flow = np.zeros(len(after.graph.edges))
    np.add.at(flow, after.scalars.edge, after.scalars.flow)
    np.testing.assert_allclose(flow, folded.traces[0].flow, rtol=1e-9, atol=1e-12)


def test_the_flow_of_an_operator_edge_is_that_of_its_scalar_edges() -> None:
    for name in ("net/multihead", "net/conv2d_groups", "recurrent/gru_plain_all", "write/slice_mul"):
        model, closure = by_name(name).make(0)
        with Tracer(model, granularity="scalar").step() as step:
            step.backward(closure())
        assert step.trace is not None
        (found,), (trace,) = step.trace.scalars, step.trace.traces
        flow = np.zeros(len(trace.graph.edges))
        np.add.at(flow, found.scalars.edge, found.scalars.flow)
        np.testing.assert_allclose(flow, trace.flow, rtol=1e-9, atol=1e-12)


def test_other_steps_have_none() -> None:
    model, x, y = net()
    with Tracer(model).step() as step:
        step.backward(LOSS(model(x), y))
    assert isinstance(step.trace, StepTrace) and step.trace.scalars == ()
    with pytest.raises(TraceError, match="operator, scalar"):
        Tracer(model, granularity="atom")


def test_a_step_beyond_the_budget_gives_the_sink_nothing() -> None:
    model, x, y = net()
    sink = MemorySink()
    tracer = Tracer(model, sink=sink, granularity="scalar", graph_budget=100)
    with pytest.raises(BudgetError, match=r"[\d,]+ scalar vertices and at least [\d,]+ scalar edges, beyond .* 100"):
        tracer.rehearse(lambda: LOSS(model(x), y))
    with pytest.raises(BudgetError, match="smaller batch"), tracer.step() as step:
        step.backward(LOSS(model(x), y))
    assert sink.steps == {} and model[0].weight.grad is None
    lenient = Tracer(model, sink=sink, granularity="scalar", graph_budget=100, on_error="warn")
    with pytest.warns(UserWarning, match="beyond the budget of 100"), lenient.step() as step:
        step.backward(LOSS(model(x), y))
    assert sink.steps == {} and step.trace is None
    assert torch.equal(model[0].weight.grad, torch.autograd.grad(LOSS(model(x), y), model[0].weight)[0])


def test_a_rehearsal_leaves_everything_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))
    x, y = torch.randn(6, 4), torch.randint(3, (6,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    Tracer(model, granularity="scalar").rehearse(lambda: LOSS(model(x), y))
    Tracer(model).rehearse(lambda: pytest.fail("at the granularity of operators there is nothing to try"))
    Tracer(model, granularity="scalar").rehearse(lambda: model(x))  # no scalar: its step will say so
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
