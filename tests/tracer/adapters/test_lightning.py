"""The Lightning callback against a loop by hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradtrace.tracer.errors import TraceError
from gradtrace.tracer.sinks import MemorySink
from tests.tracer.adapters.by_hand import assert_same_steps, by_hand

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Lightning imports is not ours to judge
    import lightning.pytorch as pl

    from gradtrace.tracer.adapters.lightning import GradtraceCallback

X = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
BATCHES = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Lightning's own warnings (few workers, little data) are not failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Net(pl.LightningModule):
    """A recurrent net, so that traceable kernels matter."""

    def __init__(self, width: int = 6, fail_at: int | None = None, manual: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(5, width)
        self.head = nn.Linear(width, 3)
        self.fail_at, self.automatic_optimization = fail_at, not manual

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.head(self.lstm(x.unsqueeze(0))[0][0]), y)

    def training_step(self, batch: Any, index: int) -> Tensor:
        if index == self.fail_at:
            raise RuntimeError("the loader is on fire")
        loss = self.loss(batch)
        if not self.automatic_optimization:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def fit(module: pl.LightningModule, callback: GradtraceCallback, folder: Path, **options: Any) -> None:
    loader: DataLoader[Any] = DataLoader(TensorDataset(X, Y), batch_size=4)
    pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=[callback], **options,
    ).fit(module, loader)  # fmt: skip


@pytest.mark.parametrize(("parts", "manual"), [(1, False), (2, False), (1, True)])
def test_traces_are_those_of_a_loop_by_hand(tmp_path: Path, parts: int, manual: bool) -> None:
    sink, module = MemorySink(), Net(manual=manual)
    callback = GradtraceCallback(sink, run="r", every=2, mode=("greedy", "maxprod"), parameters={"note": "x"})
    fit(module, callback, tmp_path, accumulate_grad_batches=parts)
    twin = Net()
    # Lightning divides the loss even where it is one part; by hand nothing does.
    expected = by_hand(
        twin, torch.optim.SGD(twin.parameters(), lr=0.5), BATCHES,
        lambda model, batch: twin.loss(batch) if manual else twin.loss(batch) / parts,
        parts=parts, every=2, mode=("greedy", "maxprod"),
    )  # fmt: skip
    assert [s for _, s in sink.steps] == list(range(0, 6 // parts, 2))
    assert_same_steps(sink, expected)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters(), strict=True))
    assert sink.runs["r"].parameters == {"width": 6, "fail_at": None, "manual": manual, "note": "x"}
    assert sink.runs["r"].workload == "Net"
    assert sink.statuses == {"r": ("FINISHED", None)}
    assert callback.last is not None and callback.last.traced


def test_a_step_that_raises_closes_the_run_and_puts_the_kernels_back(tmp_path: Path) -> None:
    sink = MemorySink()
    before = torch._C._get_mkldnn_enabled()
    with pytest.raises(RuntimeError, match="on fire"):
        fit(Net(fail_at=2), GradtraceCallback(sink, run="r", every=1), tmp_path)
    assert sink.statuses == {"r": ("FAILED", "RuntimeError: the loader is on fire")}
    assert [s for _, s in sink.steps] == [0, 1]
    assert torch._C._get_mkldnn_enabled() == before
    assert torch.overrides._get_current_function_mode() is None


def test_a_step_that_cannot_be_traced_is_trained_all_the_same(tmp_path: Path) -> None:
    sink, module, twin = MemorySink(), Net(), Net()
    with pytest.warns(UserWarning, match="was not traced; training goes on"):
        fit(module, GradtraceCallback(sink, run="r", every=3, scalar_budget=10), tmp_path)
    plain = torch.optim.SGD(twin.parameters(), lr=0.5)
    by_hand(twin, plain, BATCHES, lambda model, batch: twin.loss(batch) / 1, every=3)
    assert not sink.steps and sink.statuses == {"r": ("FINISHED", None)}
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters(), strict=True))


def test_a_precision_that_scales_the_loss_is_refused(tmp_path: Path) -> None:
    class Scaled:
        scaler = object()

    sink, callback = MemorySink(), GradtraceCallback(MemorySink())
    trainer: Any = type("Trainer", (), {"precision_plugin": Scaled(), "precision": "16-mixed"})()
    with pytest.raises(TraceError, match="bf16-mixed"):
        callback.on_train_start(trainer, Net())
    assert not sink.runs
