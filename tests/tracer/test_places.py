"""In which time step and example traces begin, of each component: against the paths, one by one."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import nn

from gradtrace.tracer import Tracer, trace
from tests.oracle.components import inside
from tests.problems import by_name
from tests.tracer.judging import MODES

Masses = dict[str, dict[int, float]]


def told(found: Any, path: Any, batch_size: int | None) -> tuple[int | None, int | None]:
    """(example, time) of a path, read off its hops as docs/semantics.md says."""
    vertices = found.vertices()
    first = next((h for h in path.hops if vertices[h.vertex].time is not None), None)
    if first is not None:
        shape = vertices[first.vertex].shape
        known = len(shape) > 1 and shape[0] > 1 and (batch_size is None or shape[0] == batch_size)
        return (first.index[0] if known else None), vertices[first.vertex].time
    for h in path.hops:
        shape = vertices[h.vertex].shape
        if batch_size is not None and len(shape) > 1 and shape[0] == batch_size:
            return h.index[0], None
    return None, None


def summed(found: Any, mode: str, batch_size: int | None) -> tuple[Masses, Masses]:
    """Mass by time step and by example of every component, from the path of every parameter scalar."""
    times: Masses = defaultdict(lambda: defaultdict(float))
    examples: Masses = defaultdict(lambda: defaultdict(float))
    for row in found.parameters(mode):
        for flat in range(math.prod(row.shape)):
            path = found.path(row.parameter, flat, mode=mode)
            if path is None:
                continue
            example, time = told(found, path, batch_size)
            for component in {
                c.component for c in found.components(mode) if any(inside(h.component, c.component) for h in path.hops)
            }:
                for masses, place in ((times, time), (examples, example)):
                    if place is not None:
                        masses[component][place] += abs(path.gradient)
    return times, examples


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [
        ("recurrent/language", None),
        ("recurrent/language", 2),
        ("recurrent/lstm_two_layers_all", 2),
        ("recurrent/lstm_cell", None),
        ("net/reused", None),
        ("net/mlp", 4),
        ("net/mlp", None),
        ("workload/stack-rnn_superposition", 2),
    ],
)
def test_components_say_where_their_traces_begin(name: str, batch_size: int | None) -> None:
    model, closure = by_name(name).make(0)
    found = trace(closure, model, mode=MODES, batch_size=batch_size)
    for mode in MODES:
        times, examples = summed(found, mode, batch_size)
        for row in found.components(mode):
            for got, masses, want in (
                (row.times, row.time_mass, times[row.component]),
                (row.examples, row.example_mass, examples[row.component]),
            ):
                assert len(got) == min(len([m for m in want.values() if m > 0]), 8)
                assert list(masses) == pytest.approx([want[k] for k in got], rel=1e-9)
                assert list(masses) == sorted(masses, reverse=True)
        strongest = [r.strongest for r in found.parameters(mode) if r.strongest is not None]
        rows = [r for r in found.parameters(mode) if r.strongest is not None]
        for row, best in zip(rows, strongest, strict=True):
            path = found.path(row.parameter, best.scalar, mode=mode)
            assert (best.example, best.time) == told(found, path, batch_size)


def test_a_token_of_the_first_step_is_traced_to_the_first_step() -> None:
    """Planted: a token that only one example has, at its first step."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(4, 3), "lstm": nn.LSTM(3, 4, batch_first=True)}).double()
    tokens = torch.tensor([[0, 1, 1], [2, 1, 0], [0, 0, 1]])
    tracer = Tracer(model, every=1, batch_size=3, watch=("embed.weight",))
    with tracer.step() as step:
        step.backward(model["lstm"](model["embed"](tokens))[0][:, -1].square().sum())
    found = step.traces["training"]
    for flat in range(3):
        path = found.path("embed.weight", (2, flat))
        assert told(found, path, 3) == (1, 0)


def test_a_tensor_kept_from_inside_a_module_may_be_the_start() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 2)).double()
    kept: list[torch.Tensor] = []
    handle = model[0].register_forward_hook(lambda _m, _i, output: kept.append(output))
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    found = trace(lambda: model[1](model[0](x))[0].square().sum(), model)
    handle.remove()
    path = found.path(kept[0], (3, 1, 2))
    assert path is not None
    vertices = found.vertices()
    assert path.hops[0].component.startswith("1.l0")
    times = [vertices[h.vertex].time for h in path.hops]
    assert next(t for t in times if t is not None) == 3  # the product with all inputs comes first, and repeats no step


def test_later_steps_of_a_tracer_say_what_a_trace_by_itself_says() -> None:
    model, closure = by_name("recurrent/lstm_two_layers_all").make(0)
    tracer = Tracer(model, every=1, mode=MODES, batch_size=2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        model.zero_grad(set_to_none=True)
        with tracer.step() as step:
            step.backward(closure())
        assert step.trace is not None
        alone = trace(closure, model, mode=MODES, batch_size=2)
        for held in step.trace.traces:
            got = {c.component: c for c in held.components}
            for c in alone.components(held.mode):
                mine = got[c.component]
                assert (mine.times, mine.examples) == (c.times, c.examples)
                assert mine.time_mass == pytest.approx(c.time_mass, rel=1e-12)
                assert mine.example_mass == pytest.approx(c.example_mass, rel=1e-12)
