"""What stands in for the fused operators of GPUs: their values, when they are in place, and the traces of a model on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gradtrace.tracer import fused, trace
from gradtrace.tracer.fused import fused_written_out
from gradtrace.tracer.recording import traceable_kernels
from tests.tracer.behind import behind

BATCH, WIDE, HIDDEN = 3, 4, 5


def leaves(*shapes: Sequence[int]) -> list[Tensor]:
    return [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("gates", [4, 3])
def test_cells_are_those_of_pytorch(gates: int, biased: bool) -> None:
    torch.manual_seed(gates)
    x, h, c, w_ih, w_hh, b_ih, b_hh = inputs = leaves(
        *((BATCH, WIDE), (BATCH, HIDDEN), (BATCH, HIDDEN), (gates * HIDDEN, WIDE), (gates * HIDDEN, HIDDEN)),
        *((gates * HIDDEN,), (gates * HIDDEN,)),
    )
    biases = (b_ih, b_hh) if biased else (None, None)
    if gates == 4:
        theirs: tuple[Tensor, ...] = torch.lstm_cell(x, (h, c), w_ih, w_hh, *biases)
        ours: tuple[Tensor, ...] = fused.lstm_cell(x @ w_ih.T, h @ w_hh.T, c, *biases)[:2]
    else:
        theirs = (torch.gru_cell(x, h, w_ih, w_hh, *biases),)
        ours = fused.gru_cell(x @ w_ih.T, h @ w_hh.T, h, *biases)[:1]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("eps", [None, 0.1])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_norm_is_that_of_pytorch(dtype: torch.dtype, eps: float | None, weighted: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 4).to(dtype), torch.randn(3, 4).to(dtype) if weighted else None
    made, scale = fused.rms_norm(x, (3, 4), weight, eps)
    torch.testing.assert_close(made, nn.functional.rms_norm(x, (3, 4), weight, eps))
    assert scale.shape == (2, 1, 1)


def gradients(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    ways = [torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape) for out in outputs]
    found = torch.autograd.grad(outputs, inputs, ways, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


FUSED = {
    "LSTM": (lambda: nn.LSTM(WIDE, HIDDEN, 2, bidirectional=True, device="cuda"), "ThnnFusedLstmCell"),
    "GRU": (lambda: nn.GRU(WIDE, HIDDEN, bias=False, device="cuda"), "ThnnFusedGruCell"),
    "RMSNorm": (lambda: nn.RMSNorm(WIDE, device="cuda"), "FusedRmsNorm"),
}


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="NOT TESTED: this PyTorch was built without CUDA")
@pytest.mark.parametrize("name", FUSED)
def test_a_gpu_records_no_fused_operator_meanwhile(name: str) -> None:
    make, hidden = FUSED[name]
    with FakeTensorMode(), traceable_kernels():
        module = make()
        x = torch.randn(2, BATCH, WIDE, device="cuda", requires_grad=True)
        with fused_written_out():
            within = recorded(module(x))
        after = recorded(module(x))
    assert not [op for op in within if "Fused" in op]
    # Where there is a GPU, recording writes them out anyway.
    assert f"{hidden}Backward0" in after or torch.accelerator.is_available()


def recorded(made: Tensor | tuple[Tensor, object]) -> set[str]:
    return behind([made if isinstance(made, Tensor) else made[0]])


@contextmanager
def steps_taken_as_on_a_gpu() -> Iterator[None]:
    """Let recurrent modules on the CPU go step by step through the fused cell, as `FullLayer` in RNN.cpp does on a GPU."""

    def lstm(x: Tensor, hx: list[Tensor], params: list[Tensor], *_: object) -> tuple[Tensor, Tensor, Tensor]:
        w_ih, w_hh, b_ih, b_hh = params
        h, c = hx[0][0], hx[1][0]
        outs = []
        for row in x.unbind(0):
            h, c, _ = fused.lstm_cell(row.matmul(w_ih.t()), h.matmul(w_hh.t()), c, b_ih, b_hh)
            outs.append(h)
        return torch.stack(outs), h[None], c[None]

    def gru(x: Tensor, hx: Tensor, params: list[Tensor], *_: object) -> tuple[Tensor, Tensor]:
        w_ih, w_hh, b_ih, b_hh = params
        h = hx[0]
        outs = []
        for row in x.unbind(0):
            h, _ = fused.gru_cell(row.matmul(w_ih.t()), h.matmul(w_hh.t()), h, b_ih, b_hh)
            outs.append(h)
        return torch.stack(outs), h[None]

    library = torch.library.Library("aten", "IMPL")
    library.impl("lstm.input", lstm, "AutogradCPU")
    library.impl("gru.input", gru, "AutogradCPU")
    try:
        yield
    finally:
        library._destroy()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_parts_of_a_cell_are_those_of_the_cpu(kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(1)
    model = nn.ModuleDict({"rnn": kind(WIDE, HIDDEN), "head": nn.Linear(HIDDEN, 2)}).double()
    x = torch.randn(6, BATCH, WIDE, dtype=torch.float64)

    def loss() -> Tensor:
        return model["head"](model["rnn"](x)[0]).square().mean()

    here = trace(loss, model, mode=("greedy", "maxprod"))
    with steps_taken_as_on_a_gpu():
        there = trace(loss, model, mode=("greedy", "maxprod"))
    products = [v for v in there.graph.vertices if v.op == "Mm"]
    assert len(products) == 12 and sorted(v.time for v in products if v.time is not None) == sorted([*range(6)] * 2)
    for mode in ("greedy", "maxprod"):
        for a, b in zip(here.parameters(mode), there.parameters(mode), strict=True):
            assert (a.parameter, a.traffic, a.dead) == (b.parameter, b.traffic, b.dead)
            assert a.mass == pytest.approx(b.mass, rel=1e-9)
        ours, theirs = ({c.component: c for c in t.components(mode)} for t in (here, there))
        assert ours.keys() == theirs.keys()
        for name, row in ours.items():
            assert row.share == pytest.approx(theirs[name].share, rel=1e-9), name
            assert row.foreign == pytest.approx(theirs[name].foreign, rel=1e-9), name
