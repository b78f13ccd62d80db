"""What the tracer is given when things go wrong: a typed error, or defined behaviour."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional

from gradtrace.tracer import memory, trace
from gradtrace.tracer.errors import (
    BudgetError,
    GradtraceError,
    LookupTraceError,
    LossError,
    OpaqueKernelError,
    TraceError,
    UntraceableOperatorError,
)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def test_a_loss_of_several_elements() -> None:
    model = net()
    with pytest.raises(LossError, match=re.escape("(5, 2)")):
        trace(lambda: model(X), model)
    assert all(p.grad is None for p in model.parameters())


def test_a_loss_of_one_element_is_a_scalar() -> None:
    model = net()
    found = trace(lambda: model(X).sum().reshape(1), model)
    assert found.path("0.weight", 0) is not None


def test_a_loss_without_graph() -> None:
    with pytest.raises(LossError):
        trace(torch.tensor(1.0))
    model = net()
    with pytest.raises(LossError):
        trace(lambda: model(X).sum().detach(), model)


def test_a_loss_that_is_no_tensor() -> None:
    model = net()
    with pytest.raises(TraceError):
        trace(lambda: model(X).sum().item(), model)
    with pytest.raises(TraceError):
        trace(lambda: (model(X).sum(), 1), model)


def test_a_loss_under_no_grad_and_inference_mode() -> None:
    model = net()
    for mode in (torch.no_grad, torch.inference_mode):

        def loss(mode: type = mode) -> Tensor:
            with mode():
                return model(X).sum()

        with pytest.raises(LossError):
            trace(loss, model)
    with torch.inference_mode(), pytest.raises(LossError):
        trace(lambda: model(X).sum(), model)


def test_a_graph_that_was_freed() -> None:
    model = net()
    loss = model(X).square().sum()
    loss.backward()
    before = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(LossError):
        trace(loss)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_a_loss_traced_twice() -> None:
    model = net()
    loss = model(X).square().sum()
    trace(loss)
    before = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(LossError):
        trace(loss)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


def test_a_loss_recorded_before_it_is_traced() -> None:
    plain, model = net(), net()
    plain(X).square().mean().backward()
    found = trace(model(X).square().mean())
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    weight = model[0].weight
    path = found.path(weight, (1, 2))
    assert [h.op for h in path.hops] == ["Addmm", "Tanh", "Addmm", "Pow", "Mean"]
    assert all(h.component is None for h in path.hops)


def test_a_loss_recorded_with_a_fused_recurrence_says_how_to_record_it() -> None:
    lstm = nn.LSTM(3, 4)
    loss = lstm(X[:, None])[0].sum()
    if "Mkldnn" not in loss.grad_fn.next_functions[0][0].name():
        pytest.fail("this torch records nn.LSTM decomposed; the test needs a fused loss")
    with pytest.raises(OpaqueKernelError, match="trace"):
        trace(loss)


def test_a_fused_kernel_called_by_its_own_name_says_what_to_call() -> None:
    query = nn.Parameter(torch.randn(1, 2, 3, 4, dtype=torch.float64))
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with pytest.raises(OpaqueKernelError, match="its own name: call scaled_dot_product_attention instead"):
        trace(lambda: fused(query, query, query)[0].sum(), nn.ParameterDict({"query": query}))
    found = trace(
        lambda: nn.functional.scaled_dot_product_attention(query, query, query).sum(),
        nn.ParameterDict({"query": query}),
    )
    assert found.parameters()[0].traffic == query.numel()


def test_frozen_and_unused_parameters() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"used": nn.Linear(3, 3), "frozen": nn.Linear(3, 3), "never": nn.Linear(2, 2)})
    model["frozen"].requires_grad_(False)
    found = trace(lambda: model["frozen"](torch.tanh(model["used"](X))).sum(), model)
    rows = {r.parameter: r for r in found.parameters()}
    assert rows["used.weight"].traffic == 9
    assert rows["never.weight"].unread == 4
    assert rows["never.weight"].traffic == 0
    assert rows["never.weight"].strongest is None
    assert found.path("never.weight", 0) is None
    assert "frozen.weight" not in rows or rows["frozen.weight"].traffic == 0
    assert model["frozen"].weight.grad is None
    assert model["never"].weight.grad is None


def test_all_parameters_frozen() -> None:
    model = net().requires_grad_(False)
    with pytest.raises(LossError):
        trace(lambda: model(X).sum(), model)


def test_dead_parameters_are_counted() -> None:
    model = net()
    found = trace(lambda: (model(X) * 0.0).sum(), model)
    for row in found.parameters():
        assert (row.traffic, row.mass, row.strongest) == (0, 0.0, None)
        assert row.dead == math.prod(row.shape)
    assert found.path("0.weight", (0, 0)) is None
    assert all(r.share == 0 for r in found.components())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("mode", ["greedy", "maxprod"])
def test_a_loss_that_is_not_finite(bad: float, mode: str) -> None:
    plain, model = net(), net()
    (plain(X).sum() * bad).backward()
    found = trace(lambda: model(X).sum() * bad, model, mode=mode)
    batch = found.batch_trace(mode)
    assert batch.non_finite
    assert not math.isfinite(batch.loss)
    for row in batch.parameters:
        assert row.non_finite == math.prod(row.shape)
        assert math.isfinite(row.mass)
    for quantity in (batch.flow, batch.peak, batch.mass):
        assert np.isfinite(quantity).all()
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(a.grad.isnan(), b.grad.isnan())


def test_one_example_that_is_not_finite_never_wins() -> None:
    model = nn.Linear(3, 2)
    x = X.clone()
    x[2] = math.nan
    found = trace(lambda: torch.nanmean(model(x)), model)
    assert found.batch_trace().non_finite
    for flat in range(6):
        path = found.path("weight", flat)
        assert path is None or (path.hops[0].index[0] != 2 and math.isfinite(path.hops[0].weight))


def test_infinite_weights_are_passed_over() -> None:
    w = nn.Parameter(torch.tensor([4.0, 0.0]))
    model = nn.ParameterDict({"w": w})
    found = trace(lambda: (torch.sqrt(w) + 0.5 * w).sum(), model)  # d sqrt at 0 is infinite
    assert found.batch_trace().non_finite
    path = found.path("w", 1)
    assert path is None or path.hops[0].op == "Mul"


def test_a_compiled_model_is_traced_as_if_it_were_not_compiled() -> None:
    plain, model = net(), net()
    compiled = torch.compile(model, backend="aot_eager")
    want = trace(lambda: plain(X).square().sum(), plain)
    found = trace(lambda: compiled(X).square().sum(), model)
    assert [v.op for v in found.vertices()] == [v.op for v in want.vertices()]
    assert found.path("0.weight", 5).hops == want.path("0.weight", 5).hops


def test_a_loss_that_compiled_code_recorded_is_refused() -> None:
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        loss = torch.compile(model, backend="aot_eager")(X).square().sum()
    with pytest.raises(UntraceableOperatorError, match=r"(?i)compile"):
        trace(loss)
    assert all(p.grad is None for p in model.parameters())


def test_complex_numbers() -> None:
    w = nn.Parameter(torch.randn(3, dtype=torch.complex64))
    with pytest.raises(
        UntraceableOperatorError, match=r"complex numbers; .* with real tensors \(torch\.view_as_real\)"
    ):
        trace(lambda: (w * w).abs().sum(), nn.ParameterDict({"w": w}))
    with pytest.raises(LossError, match=r"The loss is complex; .* Did you mean loss\.abs\(\)\?"):
        trace(lambda: (w * w).sum(), nn.ParameterDict({"w": w}))
    assert w.grad is None


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_sparse_numbers() -> None:
    leaf = torch.eye(3).to_sparse_csr().requires_grad_()
    with pytest.raises(UntraceableOperatorError, match="to_dense"):
        trace(lambda: (leaf @ torch.ones(3, 1)).sum())
    dense = torch.eye(3, requires_grad=True)
    with pytest.raises(UntraceableOperatorError, match="to_dense"):
        trace(lambda: dense.to_sparse().to_dense().sum())


def test_an_operator_too_large_to_probe() -> None:
    a = nn.Parameter(torch.randn(600, 600))
    with pytest.raises(UntraceableOperatorError) as caught:
        trace(lambda: torch.linalg.solve(a, torch.eye(600)).sum(), nn.ParameterDict({"a": a}))
    assert isinstance(caught.value, GradtraceError)
    assert "Solve" in str(caught.value)
    assert a.grad is None


def test_names_that_are_not_there() -> None:
    model = net()
    found = trace(lambda: model(X).sum(), model)
    with pytest.raises(LookupTraceError, match=r"0\.weight"):
        found.path("0.wieght", 0)
    with pytest.raises(LookupTraceError):
        found.path("0.weight", (9, 9))
    with pytest.raises(LookupTraceError):
        found.path("0.weight", 12)
    with pytest.raises(LookupTraceError):
        found.path("0.weight", (0, 0, 0))
    with pytest.raises(LookupTraceError):
        found.path(nn.Parameter(torch.zeros(2)), 0)
    with pytest.raises(TraceError):
        found.path("0.weight", 0, mode="maxprod")  # was not traced


def test_a_mode_that_does_not_exist() -> None:
    model = net()
    with pytest.raises((GradtraceError, ValueError), match="greedy"):
        trace(lambda: model(X).sum(), model, mode="sum")


def test_an_error_of_the_users_own_code_passes_through() -> None:
    def loss() -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        trace(loss, net())


def test_a_hook_that_changes_a_gradient_is_told_of() -> None:
    model = net()

    def loss(hooked: bool) -> Tensor:
        h = torch.tanh(model[0](X))
        if hooked:
            h.register_hook(lambda g: g * 3)
        return (model[2](h) * h[:, :2]).sum()

    assert trace(lambda: loss(False), model).batch_trace().consistent
    assert not trace(lambda: loss(True), model).batch_trace().consistent


def test_a_trace_that_would_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    assert memory.available() is None or memory.available() > 2**20
    monkeypatch.setattr(memory, "available", lambda: 500)
    with pytest.raises(BudgetError, match=r"at least .* GiB \(26 scalars of parameters, 51 of operators\)"):
        trace(lambda: model(X).sum(), model)
    assert all(p.grad is None for p in model.parameters())
    monkeypatch.setattr(memory, "available", lambda: None)
    assert trace(lambda: model(X).sum(), model).path("0.weight", 0) is not None


def test_errors_name_what_to_do() -> None:
    assert issubclass(BudgetError, TraceError)
    with pytest.raises(LossError) as caught:
        trace(torch.ones(2, 2, requires_grad=True) * 2)
    assert len(str(caught.value)) > 40


def test_the_kernels_are_as_they_were_afterwards() -> None:
    model = net()

    def settings() -> tuple[object, ...]:
        return (
            torch._C._get_mkldnn_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.utils.checkpoint.CheckpointFunction,
            getattr(functional, "_linear_cross_entropy_chunked_applies", None),
        )

    before = settings()
    trace(lambda: model(X).sum(), model)
    with pytest.raises(ZeroDivisionError):
        trace(lambda: 1 / 0, model)
    assert settings() == before
