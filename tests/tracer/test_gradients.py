"""Tracing leaves the gradients that a plain backward leaves, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradtrace.tracer import Tracer, trace
from tests.oracle.recording import decomposed_kernels
from tests.problems import Problem, everything
from tests.problems.networks import Block
from tests.problems.recurrent import Reader


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    """Every parameter's gradient, copied."""
    return {n: None if p.grad is None else p.grad.detach().clone() for n, p in model.named_parameters()}


def same(a: dict[str, Tensor | None], b: dict[str, Tensor | None]) -> bool:
    """Bit for bit, None where None."""
    return a.keys() == b.keys() and all(
        (x is None and y is None) or (x is not None and y is not None and torch.equal(x, y))
        for x, y in zip(a.values(), b.values(), strict=True)
    )


@pytest.mark.parametrize("problem", everything(), ids=lambda p: p.name)
def test_gradients_are_those_of_a_plain_backward(problem: Problem) -> None:
    plain, closure = problem.make(0)
    with decomposed_kernels():
        loss = closure()
        loss.backward()
    model, closure = problem.make(0)
    found = trace(closure, model, mode=("greedy", "maxprod"))
    assert same(gradients(plain), gradients(model))
    assert float(found.loss) == float(loss.detach())


BIG: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)), (16, 32)),
    "lstm": (lambda: Reader(nn.LSTM(8, 16, num_layers=2), False, 16), (7, 4, 8)),
    "gru": (lambda: Reader(nn.GRU(8, 16, bidirectional=True), True, 32), (7, 4, 8)),
    "block": (lambda: Block(16, 4), (3, 9, 16)),
}


@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_gradients_of_larger_models(name: str, dtype: torch.dtype) -> None:
    build, shape = BIG[name]
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))

    def model() -> nn.Module:
        torch.manual_seed(2)
        return build().to(dtype)

    plain, traced = model(), model()
    with decomposed_kernels():
        plain(x).square().mean().backward()
    trace(lambda: traced(x).square().mean(), traced)
    assert same(gradients(plain), gradients(traced))


def test_gradients_accumulate() -> None:
    def run(traced: bool) -> dict[str, Tensor | None]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        for k in range(3):
            x = torch.randn(6, 5, generator=torch.Generator().manual_seed(k))

            def loss(x: Tensor = x) -> Tensor:
                return model(x).logsumexp(1).mean()

            if traced:
                trace(loss, model)
            else:
                with decomposed_kernels():
                    loss().backward()
        return gradients(model)

    assert same(run(True), run(False))


def _hooked(traced: bool) -> tuple[list[Any], dict[str, Tensor | None]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(7))
    heard: list[Any] = []
    model[0].weight.register_hook(lambda g: heard.append(("pre", g.clone())))
    model[0].weight.register_post_accumulate_grad_hook(lambda p: heard.append(("post", p.grad.clone())))
    model[2].register_full_backward_hook(lambda m, i, o: heard.append(("module", o[0].clone())))

    def loss() -> Tensor:
        return model(x).square().mean()

    if traced:
        trace(loss, model)
    else:
        with decomposed_kernels():
            loss().backward()
    return heard, gradients(model)


def test_hooks_run_once_with_the_same_gradients() -> None:
    plain, plain_gradients = _hooked(False)
    traced, traced_gradients = _hooked(True)
    assert same(plain_gradients, traced_gradients)
    assert [k for k, _ in plain] == [k for k, _ in traced]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(plain, traced, strict=True))


def test_a_training_loop_is_the_same_with_and_without_tracing() -> None:
    def train(every: int | None) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        data = torch.Generator().manual_seed(1)

        def batch() -> tuple[Tensor, Tensor]:
            return torch.randn(8, 6, generator=data), torch.randint(0, 3, (8,), generator=data)

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.cross_entropy(model(x), y)

        if every is None:
            for _ in range(7):
                optimizer.zero_grad()
                with decomposed_kernels():
                    loss_of(*batch()).backward()
                optimizer.step()
        else:
            with Tracer(model, every=every, mode=("greedy", "maxprod")) as tracer:
                for _ in range(7):
                    optimizer.zero_grad()
                    with tracer.step() as step, decomposed_kernels():
                        step.backward(loss_of(*batch()))
                    optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    plain = train(None)
    for every in (1, 3):
        assert all(torch.equal(a, b) for a, b in zip(plain, train(every), strict=True))
