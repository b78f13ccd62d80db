"""What researchers do around a model: traced exactly, or refused in words that say the way out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradtrace.tracer import Tracer, declare, trace
from gradtrace.tracer.errors import TraceError, UntraceableOperatorError
from gradtrace.tracer.rules import inplace
from tests.oracle.judge import Judge
from tests.oracle.oracle import consult_loss
from tests.oracle.recording import decomposed_kernels
from tests.problems.base import Problem, Scene, network, weigh
from tests.problems.situations import Centred, Swish
from tests.tracer.judging import MODES, told_components
from tests.tracer.judging import judge as judged
from tests.tracer.oracles import oracle_of

# -- packed sequences ---------------------------------------------------------------------------------------------


class Packed(nn.Module):
    """A recurrent module over a packed batch of unequal lengths: its outputs, padded, and its last states."""

    def __init__(self, core: nn.Module, lengths: Sequence[int], in_order: bool, batch_first: bool) -> None:
        super().__init__()
        self.core, self.lengths, self.in_order, self.batch_first = core, torch.tensor(lengths), in_order, batch_first

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        packed = nn.utils.rnn.pack_padded_sequence(
            x, self.lengths, batch_first=self.batch_first, enforce_sorted=self.in_order
        )
        y, states = self.core(packed)
        states = list(states) if isinstance(states, tuple) else [states]
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=self.batch_first)[0], states


def packed(kind: str, lengths: Sequence[int], *, in_order: bool = True, **kwargs: Any) -> Problem:
    """Every output and every last state counts."""
    build = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]

    def loss(model: Any, x: Tensor) -> Tensor:
        y, states = model(x)
        return weigh(y) + sum(weigh(state**2) for state in states)

    n, t = len(lengths), max(lengths)
    named = [kind, *(k if v is True else f"{k}={v}" for k, v in kwargs.items()), *map(str, lengths)]
    return network(
        f"packed/{'_'.join(named)}",
        lambda: Packed(build(2, 2, **kwargs), lengths, in_order, kwargs.get("batch_first", False)),
        loss,
        x=(n, t, 2) if kwargs.get("batch_first") else (t, n, 2),
    )


PACKED = [
    packed("gru", (3, 2, 1)),
    packed("gru", (1, 3, 2), in_order=False),
    packed("gru", (3, 3, 1), bidirectional=True),
    packed("rnn", (3, 2, 1)),
    packed("rnn", (2, 1, 3), in_order=False, nonlinearity="relu"),
    packed("rnn", (3, 2, 2), bidirectional=True),
    packed("lstm", (1, 2, 3), in_order=False),
    packed("lstm", (3, 2, 1), bidirectional=True),
    packed("lstm", (1, 2), in_order=False, bidirectional=True, num_layers=2, batch_first=True),
    packed("gru", (1, 2), in_order=False, bidirectional=True, num_layers=2),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("problem", PACKED, ids=lambda p: p.name)
def test_packed_sequences(problem: Problem, mode: str) -> None:
    findings = judged(problem.make, oracle_of(problem), (mode,), problem.tolerance)
    assert not findings, "\n".join(findings[:12])


# -- in-place writes ----------------------------------------------------------------------------------------------


def two() -> Scene:
    torch.manual_seed(0)
    return Scene({"a": (4, 3), "b": (2, 3)}, {})


def test_copies_into_large_tensors_need_no_probing() -> None:
    model = nn.Linear(64, 128)

    def loss() -> Tensor:
        y = torch.zeros(128, 128)
        y[::2] = model(torch.eye(64))
        y[1] = y[0]
        return y.square().sum()

    ops = [v.op for v in trace(loss, model, probe_budget=0).batch_trace().graph.vertices if v.op]
    assert ops == ["Addmm", "Pow", "Sum"]


def test_arithmetic_on_a_part_of_a_large_tensor_needs_no_probing() -> None:
    model = nn.Linear(64, 128)

    def loss() -> Tensor:
        y = torch.zeros(128, 128)
        y[:64].add_(model(torch.eye(64)))
        return y.square().sum()

    path = trace(loss, model, probe_budget=0).path("bias", 5)
    assert path is not None
    assert [hop.op for hop in path.hops] == ["Addmm", "CopySlices", "Pow", "Sum"]


def test_a_plan_is_not_reused_for_another_write() -> None:
    model = two()
    tracer = Tracer(model, every=1)
    writes = (
        lambda y: y[1:3].copy_(model.b), lambda y: y[1:3].add_(model.b), lambda y: y[0:2].copy_(model.b),
        lambda y: y[0:2].add_(model.b, alpha=2), lambda y: y[0:2].add_(model.b, alpha=4),
        lambda y: y[1:3].mul_(model.b), lambda y: y[::2].copy_(model.b),
    )  # fmt: skip
    for write in writes * 2:
        with tracer.step() as step:
            y = model.a * 2
            write(y)
            loss = weigh(y**2)
            oracle = consult_loss(loss, model)
            step.backward(loss)
        assert step.trace is not None
        findings = Judge(step.traces["training"], oracle, "greedy").run()
        assert not findings, findings[:5]


def test_writes_that_an_older_torch_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inplace, "inner", lambda node: None)
    model = two()

    def copied() -> Tensor:
        y = model.a * 2
        y[1:3] = model.b
        return weigh(y**2)

    def added() -> Tensor:
        y = model.a * 2
        y[1:3].mul_(model.b)
        return weigh(y**2)

    path = trace(copied, model).path("b", (0, 1))
    assert path is not None
    assert [hop.op for hop in path.hops] == ["Pow", "Mul", "Sum"]
    with pytest.raises(UntraceableOperatorError, match="Update torch"):
        trace(added, model)


# -- checkpointing ------------------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    """Two checkpointed blocks with dropout, one of them sharing its weight with the head, between plain layers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.kind = kind
        self.first, self.inner, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.head.weight = self.inner.weight

    def block(self, x: Tensor, scale: float) -> Tensor:
        return nn.functional.dropout(self.inner(x).tanh() * scale, 0.3) + x

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(5)
        x = self.first(x)
        for scale in (1.5, 0.5):
            if self.kind == "none":
                x = self.block(x, scale)
            else:
                x = checkpoint(self.block, x, scale, use_reentrant=self.kind == "reentrant")
        return self.head(x).square().sum()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["reentrant", "non-reentrant"])
def test_checkpoints_of_both_kinds_are_traced_as_if_there_were_none(kind: str, mode: str) -> None:
    x = torch.randn(5, 3)
    found, gradients = {}, {}
    for which in ("none", kind):
        model = Checkpointed(which).double()
        with Tracer(model, every=1, mode=mode).step() as step:
            step.backward(model(x.double()))
        assert step.trace is not None
        gradients[which] = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        traced = trace(lambda model=model: model(x.double()), model, mode=mode)
        names = [(name, k) for name, p in model.named_parameters() for k in range(p.numel())]
        found[which] = [traced.path(name, k) for name, k in names], step.trace.traces[0].parameters
    (paths, rows), (want_paths, want_rows) = found[kind], found["none"]
    assert any(path is not None and len(path.hops) > 8 for path in paths)
    for a, b in zip(paths, want_paths, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert [(h.op, h.index) for h in a.hops] == [(h.op, h.index) for h in b.hops]
    assert [(r.traffic, r.mass) for r in rows] == [(r.traffic, pytest.approx(r.mass)) for r in want_rows]
    plain = Checkpointed(kind).double()
    plain(x.double()).backward()
    for got, want, untraced in zip(gradients[kind], gradients["none"], plain.parameters(), strict=True):
        assert got is not None and want is not None and untraced.grad is not None
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(got, untraced.grad)


def test_a_reentrant_checkpoint_of_what_needs_no_gradient_gives_none() -> None:
    inner, head = nn.Linear(3, 3), nn.Linear(3, 1)
    x = torch.randn(2, 3)
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        found = trace(lambda: head(checkpoint(inner, x, use_reentrant=True)).sum(), nn.ModuleList([inner, head]))
    assert all(p.grad is None for p in inner.parameters())
    assert found.path("0.weight", 0) is None and found.path("1.weight", 0) is not None


def test_a_reentrant_checkpoint_recorded_before_it_is_traced_is_refused() -> None:
    inner, head = nn.Linear(3, 3), nn.Linear(3, 1)
    model = nn.ModuleList([inner, head])
    x = torch.randn(2, 3, requires_grad=True)
    loss = head(checkpoint(inner, x, use_reentrant=True)).sum()
    with pytest.raises(UntraceableOperatorError, match=r"use_reentrant=True.*while it is traced"):
        trace(loss, model)
    assert all(p.grad is None for p in model.parameters())


# -- functions of one's own ---------------------------------------------------------------------------------------


class Mixing(torch.autograd.Function):
    """Neither elementwise nor row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x + x.sum()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g + g.sum()


@pytest.mark.parametrize("kind", ["elementwise", "rows"])
def test_a_function_that_is_not_what_it_was_declared_to_be(kind: str) -> None:
    class Wrong(Mixing):
        pass

    declare(Wrong, kind)
    x = nn.Parameter(torch.randn(3, 4))
    with pytest.raises(UntraceableOperatorError, match=f"declared '{kind}', but its backward mixes"):
        trace(lambda: weigh(Wrong.apply(x).double()))


def test_declarations_are_checked() -> None:
    with pytest.raises(TraceError, match="there are: elementwise, rows"):
        declare(Mixing, "diagonal")
    with pytest.raises(TraceError, match="no subclass"):
        declare(nn.ReLU, "elementwise")  # type: ignore[arg-type]  # that is the point


def test_declared_functions_need_no_probing() -> None:
    x, beta = nn.Parameter(torch.randn(64, 100)), nn.Parameter(torch.randn(64, 100))
    found = trace(lambda: Swish.apply(x, beta).sum(), probe_budget=0)
    assert found.probed == 0
    assert [hop.op for hop in found.path(x, (3, 5)).hops] == ["Swish", "Sum"]  # type: ignore[union-attr]  # it is live
    rows = trace(lambda: Centred.apply(x, beta).square().sum(), probe_budget=0)
    path = rows.path(x, (3, 5))
    assert path is not None
    assert path.hops[0].index[0] == 3
    with pytest.raises(UntraceableOperatorError, match="no closed rule"):
        trace(lambda: Mixing.apply(x).square().sum(), probe_budget=100)


# -- mixed precision ----------------------------------------------------------------------------------------------


def test_autocast_is_exact_on_the_numbers_that_it_computes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(x).square().sum()
    oracle = consult_loss(loss, model)
    found = trace(loss, model, mode=("greedy", "maxprod"))
    for mode in found.modes:
        judge = Judge(found, oracle, mode, told_components(found, oracle, mode), tolerance=1e-2)
        assert not (findings := judge.run()), findings[:5]
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_gradients_and_masses_come_unscaled_from_under_a_scaler() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    x = torch.randn(4, 3)
    plain = trace(lambda: model(x).square().sum(), model)
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Tracer(model, every=1).step() as step:
        step.backward(model(x).square().sum(), scaler)
    scaled = step.traces["training"]
    for want, got in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert got.mass == pytest.approx(want.mass, rel=1e-5)
        assert got.strongest.gradient == pytest.approx(want.strongest.gradient, rel=1e-5)
        assert got.strongest.concentration == pytest.approx(want.strongest.concentration, rel=1e-4)
    assert scaled.graph == plain.graph  # the scaler's own product is none of the model's operators
    before = [p.detach().clone() for p in model.parameters()]
    scaler.step(optimizer)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def gradients(model: nn.Module) -> list[Tensor]:
    """Copies; every parameter has one."""
    assert all(p.grad is not None for p in model.parameters())
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_autocast_under_a_scaler_is_traced_as_autocast_alone(mode: str) -> None:
    """A factor that is a power of two changes no digit: gradients and all paths are the same, bit for bit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.randn(4, 3)

    def loss() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(x)
        assert y.dtype == torch.bfloat16
        return y.float().square().sum()

    with decomposed_kernels():
        scaler.scale(loss()).backward()
        wanted = gradients(model)
        model.zero_grad()
        plain = trace(loss, model, mode=mode)
        unscaled = gradients(model)
        model.zero_grad()

    with Tracer(model, every=1, mode=mode).step() as step:
        value = loss()
        oracle = consult_loss(value, model)
        model.zero_grad()  # the oracle calls every node, those that accumulate as well
        step.backward(value, scaler)
    found = step.traces["training"]
    assert equal(gradients(model), wanted)  # as scaled as without tracing
    scaler.unscale_(optimizer)
    assert equal(gradients(model), unscaled)

    judge = Judge(found, oracle, mode, told_components(found, oracle, mode), tolerance=1e-2)
    assert not (findings := judge.run()), findings[:5]
    assert found.graph == plain.graph
    for want, got in zip(plain.parameters(), found.parameters(), strict=True):
        assert (got.mass, got.strongest, got.routes) == (want.mass, want.strongest, want.routes)
    for name, parameter in model.named_parameters():
        for flat in range(parameter.numel()):
            assert found.path(name, flat) == plain.path(name, flat)


# -- accumulation -------------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_traced_and_untraced_backwards() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    batches = [torch.randn(4, 3, dtype=torch.float64) for _ in range(3)]
    for batch in batches:
        model(batch).square().sum().backward()
    plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with Tracer(model, every=1).step() as step:
        for batch in batches:
            step.backward(model(batch).square().sum())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), plain, strict=True) if p.grad is not None)
    first = nn.Sequential(*model)
    first.zero_grad()
    alone = trace(lambda: first(batches[0]).square().sum(), first)
    assert [r.mass for r in step.traces["training"].parameters()] == pytest.approx([r.mass for r in alone.parameters()])


# -- two processes ------------------------------------------------------------------------------------------------


def test_two_processes_train_and_trace_alike(tmp_path: Path) -> None:
    """Each process's trace is that of its own batch; gradients are averaged as without tracing, bit for bit."""
    command = [sys.executable, "-m", "tests.tracer.two_processes", str(tmp_path)]
    workers = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
