"""Known answers: models in which it is known beforehand through what a parameter learns.

Where a common story turned out wrong, the test says what was found instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradtrace.service.runner import build
from gradtrace.service.spec import spec_from_text
from gradtrace.service.workloads.instance import Batch, WorkloadInstance
from gradtrace.tracer import trace
from tests.tracer.judging import MODES

Start = tuple[str | Tensor, int]


@dataclass(frozen=True)
class Crossed:
    """What the traces of some scalars cross.

    Attributes:
        share: component → part of their mass whose traces cross an operator of just this component.
        visits: component → how many of its operators a trace crosses, in the mean by mass.
        late: component → as `share`, but only for crossings in or after a given time step.
    """

    share: dict[str, float]
    visits: dict[str, float]
    late: dict[str, float]


def crossed(found: Any, starts: Iterable[Start], mode: str, since: int = 0) -> Crossed:
    """Follow the trace of every start. Something must be alive."""
    times = [v.time for v in found.vertices()]
    mass = 0.0
    share: Counter[str] = Counter()
    visits: Counter[str] = Counter()
    late: Counter[str] = Counter()
    for start, flat in starts:
        path = found.path(start, flat, mode=mode)
        if path is None:
            continue
        m = abs(path.gradient)
        mass += m
        hops = [(hop.component or "", times[hop.vertex]) for hop in path.hops]
        for c, count in Counter(c for c, _ in hops).items():
            share[c] += m
            visits[c] += m * count
        for c in {c for c, time in hops if time is not None and time >= since}:
            late[c] += m
    assert mass > 0
    return Crossed(*(_Zero({c: m / mass for c, m in totals.items()}) for totals in (share, visits, late)))


class _Zero(dict[str, float]):
    def __missing__(self, key: str) -> float:
        return 0.0


def made(workload: str, **parameters: object) -> WorkloadInstance:
    """A workload with all else as it is by default."""
    return build(spec_from_text(workload, {name: str(value) for name, value in parameters.items()}))


def learn(instance: WorkloadInstance, epochs: int) -> None:
    """Plain training."""
    for epoch in range(epochs):
        for index in range(len(instance.batches)):
            instance.optimizer.zero_grad()
            instance.loss(instance.batches.batch(epoch, index)).backward()
            instance.optimizer.step()


def scalars(tensor: Tensor, name: str | None = None, rows: slice = slice(None)) -> list[Start]:
    """All scalars of a parameter or recorded tensor, or of some of its rows, as starts."""
    flat = torch.arange(tensor.numel()).view(tensor.shape)[rows].flatten()
    return [(tensor if name is None else name, int(i)) for i in flat]


# -- highway and residual ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("bias", "way", "other"), [(8, "carry", "transform"), (-8, "transform", "carry")])
def test_a_highway_with_its_carry_open_is_carried_and_with_it_shut_transformed(
    bias: int, way: str, other: str, mode: str
) -> None:
    instance = made("highway", carry_bias=bias, layers=6, hidden=16)
    model: Any = instance.model
    found = trace(lambda: instance.loss(instance.probe), model, mode=mode)
    through = crossed(found, scalars(model.embed.weight, "embed.weight"), mode).share
    assert [through[f"layers.{k}.{way}"] for k in range(6)] == pytest.approx([1.0] * 6)
    assert [through[f"layers.{k}.{other}"] for k in range(6)] == [0.0] * 6


@pytest.mark.parametrize("mode", MODES)
def test_a_residual_branch_that_is_scaled_down_is_skipped(mode: str) -> None:
    shares = {}
    for scale in (0.001, 100):
        instance = made("resnet", branch_scale=scale, channels=4)
        model: Any = instance.model
        batch = (instance.probe[0][:8], instance.probe[1][:8])
        found = trace(lambda i=instance, b=batch: i.loss(b), model, mode=mode)
        through = crossed(found, scalars(model.stem.weight, "stem.weight"), mode).share
        shares[scale] = [(through[f"blocks.{k}.skip"], through[f"blocks.{k}.branch.conv2"]) for k in range(3)]
    assert shares[0.001] == [(pytest.approx(1.0), 0.0)] * 3
    assert all(branch > 0.5 for _, branch in shares[100]), shares


# -- recurrent networks: a symbol at the first step, asked for at the last ----------------------------------------------


def first_symbols(instance: WorkloadInstance, symbols: int) -> list[Start]:
    """Embedding rows of the symbols to be kept, which occur at the first step and at no other."""
    inputs = instance.probe[0]
    assert (inputs[:, 0] < symbols).all()
    assert (inputs[:, 1:] >= symbols).all()
    assert (instance.probe[1][:, :-1] < 0).all()
    weight: Any = instance.model.get_parameter("embed.weight")
    return scalars(weight, "embed.weight", slice(symbols))


LAG = 5
STEPS = LAG + 1
"""From the first time step to the last."""


def test_an_lstm_that_has_to_learn_to_carry_is_traced_through_its_carry_once_it_has() -> None:
    """In both modes; but maxprod finds about one carried step in six before anything is learnt, greedy next to none."""
    instance = made("lstm", lag=LAG, lr=0.01, forget_bias=-4)
    starts = first_symbols(instance, 8)

    def visits() -> dict[str, dict[str, float]]:
        found = trace(lambda: instance.loss(instance.probe), instance.model, mode=MODES)
        return {mode: crossed(found, starts, mode).visits for mode in MODES}

    before = visits()  # read at once: paths are followed when they are asked for, by the weights as they are then
    learn(instance, 15)
    assert instance.evaluate()["accuracy"] > 0.95
    after = visits()
    carry, fresh = "recurrent.l0.carry", "recurrent.l0.write"
    for mode, least, most in (("greedy", 0.0, 0.05), ("maxprod", 0.1, 0.3)):
        # Gates shut: every step but those is made by writing anew what the hidden state says.
        assert least * STEPS <= before[mode][carry] < most * STEPS, mode
        assert before[mode][carry] + before[mode][fresh] > 0.98 * (STEPS + 1), mode
        # How far training gets in 15 epochs depends on the processor's rounding.
        assert after[mode][carry] > 0.5 * STEPS > after[mode][fresh], mode


@pytest.mark.parametrize("mode", MODES)
def test_an_lstm_with_the_usual_start_is_traced_through_its_carry_before_it_has_learnt_anything(mode: str) -> None:
    """So carry alone is no sign of learning: with the forget gate's bias at 1 gradients take it from the first step on."""
    instance = made("lstm", lag=LAG)
    found = trace(lambda: instance.loss(instance.probe), instance.model, mode=mode)
    assert crossed(found, first_symbols(instance, 8), mode).visits["recurrent.l0.carry"] > 0.9 * STEPS


def test_an_elman_network_has_only_its_recurrence() -> None:
    instance = made("rnn", lag=LAG)
    starts = first_symbols(instance, 8)
    for _ in ("before learning", "after"):
        found = trace(lambda: instance.loss(instance.probe), instance.model)
        assert {found.path(*start).route for start in starts} == {"recurrent.l0 head"}
        learn(instance, 6)
    assert instance.evaluate()["accuracy"] > 0.95


# -- memories: traces from the half that is to be remembered ------------------------------------------------------------


def from_the_first_half(instance: WorkloadInstance, batch: Batch, half: int, mode: str) -> Crossed:
    """What the traces of the controller's states in the first `half` steps cross in the steps after."""
    states: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handle = instance.model.get_submodule("controller").register_forward_hook(keep)
    found = trace(lambda: instance.loss(batch), instance.model, mode=mode)
    handle.remove()
    return crossed(found, [s for state in states[:half] for s in scalars(state)], mode, since=half)


def words(workload: str, length: int, **parameters: object) -> Batch:
    """Words of just this length."""
    only = {"min_length": length, "max_length": length, "examples": 32, "held_out": 16, "seed": 7}
    return made(workload, **{**parameters, **only}).probe


@pytest.mark.parametrize(
    ("workload", "memory", "parameters", "epochs"),
    [
        pytest.param("stack-rnn", "stack", {"kind": "superposition"}, 5, marks=pytest.mark.full),
        pytest.param(
            *("stack-rnn", "stack", {"kind": "strengths", "lr": 0.01, "max_length": 5, "examples": 1024}, 10),
            marks=pytest.mark.full,
        ),
        pytest.param("queue-rnn", "queue", {"max_length": 5, "examples": 1024}, 12, marks=pytest.mark.full),
    ],
)
def test_the_first_half_of_a_word_reaches_the_loss_through_the_memory_once_it_is_learnt(
    workload: str, memory: str, parameters: dict[str, object], epochs: int
) -> None:
    instance = made(workload, **parameters)
    batch = words(workload, 5, **parameters)
    before = {mode: from_the_first_half(instance, batch, 5, mode).late[f"{memory}.read"] for mode in MODES}
    learn(instance, epochs)
    assert instance.evaluate()["accuracy"] > 0.95
    after = {mode: from_the_first_half(instance, batch, 5, mode).late[f"{memory}.read"] for mode in MODES}
    for mode in MODES:
        assert before[mode] < 0.2, mode
        assert after[mode] > 0.5, mode


def test_a_turing_machine_without_a_recurrent_controller_has_only_its_memory() -> None:
    parameters = {"controller": "feedforward", "bits": 3, "max_length": 4, "slots": 8}
    instance = made("ntm", examples=64, **parameters)
    batch = words("ntm", 4, **parameters)
    for mode in MODES:
        assert from_the_first_half(instance, batch, 4, mode).late["read.read"] == pytest.approx(1.0)


@pytest.mark.full
def test_the_copy_of_a_turing_machine_reaches_the_loss_through_its_memory_once_it_is_learnt() -> None:
    """In greedy mode, and not only then: about half of it does before anything is learnt.

    In maxprod mode it does not: once the read head is sharp, the path with the greatest product of weights goes through
    the head's own addressing, from each step's weighting to the next, and what was written is on hardly any of them.
    """
    instance = made("ntm")
    batch = words("ntm", 5)
    before = from_the_first_half(instance, batch, 5, "greedy")
    assert 0.3 < before.late["read.read"] < 0.7
    learn(instance, 4)
    assert instance.evaluate()["accuracy"] > 0.95
    after = {mode: from_the_first_half(instance, batch, 5, mode) for mode in MODES}
    assert after["greedy"].late["read.read"] > 0.9
    assert after["greedy"].share["write.add"] > 0.9
    assert after["maxprod"].late["read.addressing.shift"] > 0.9
    assert after["maxprod"].share["write.add"] < 0.1
