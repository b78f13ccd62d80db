"""The Hugging Face callback against a loop by hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradtrace.tracer.errors import TraceError
from gradtrace.tracer.sinks import MemorySink
from tests.tracer.adapters.by_hand import assert_same_steps, by_hand

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers imports is not ours to judge
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from gradtrace.tracer.adapters.transformers import GradtraceCallback

WORDS = torch.randint(0, 20, (12, 5), generator=torch.Generator().manual_seed(0))
DATA = [{"input_ids": row, "labels": i % 2} for i, row in enumerate(WORDS)]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Warnings of transformers (pinned memory without a GPU, ...) are not failures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=8, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForSequenceClassification(config)


class InOrder(Trainer):
    """Batches come in the order of the data."""

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(DATA)


def train(model: nn.Module, callback: GradtraceCallback, folder: Path, parts: int = 1, **options: Any) -> None:
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=1, per_device_train_batch_size=2, gradient_accumulation_steps=parts,
        use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, max_grad_norm=0,
        dataloader_pin_memory=False, seed=3, average_tokens_across_devices=False, **options,
    )  # fmt: skip
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.ConstantLR(sgd, factor=1.0)
    InOrder(model, arguments, train_dataset=DATA, callbacks=[callback], optimizers=(sgd, schedule)).train()


@pytest.mark.parametrize("parts", [1, 3])
def test_traces_are_those_of_a_loop_by_hand(tmp_path: Path, parts: int) -> None:
    sink, model, twin = MemorySink(), bert(), bert()
    with GradtraceCallback(sink, run="r", every=1, experiment="e") as callback:
        train(model, callback, tmp_path, parts)
    twin.train()
    rows = [WORDS[i : i + 2] for i in range(0, 12, 2)]
    # This model's loss is taken as one over the whole batch, so that nothing but accelerate divides it, by one.
    expected = by_hand(
        twin, torch.optim.SGD(twin.parameters(), lr=0.5), rows,
        lambda m, words: m(input_ids=words, labels=torch.tensor([0, 1])).loss / 1, parts=parts, every=1,
    )  # fmt: skip
    assert len(sink.steps) == 6 // parts
    assert_same_steps(sink, expected)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    run = sink.runs["r"]
    assert (run.workload, run.experiment, run.parameters["seed"]) == ("BertForSequenceClassification", "e", 3)
    assert run.parameters["gradient_accumulation_steps"] == parts
    assert sink.statuses == {"r": ("FINISHED", None)}


def test_training_that_raises_closes_the_run_and_leaves_nothing_in_force(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1, 1)

        def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            raise ZeroDivisionError("no such word")

    sink = MemorySink()
    before = torch._C._get_mkldnn_enabled()
    with pytest.raises(ZeroDivisionError), GradtraceCallback(sink, run="r", every=1) as callback:
        train(Broken(), callback, tmp_path)
    assert sink.statuses == {"r": ("FAILED", "ZeroDivisionError: no such word")}
    assert torch._C._get_mkldnn_enabled() == before
    assert torch.overrides._get_current_function_mode() is None


def test_fp16_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    sink = MemorySink()
    arguments: Any = type("Arguments", (), {"fp16": True})()
    with pytest.raises(TraceError, match="bf16"):
        GradtraceCallback(sink).on_train_begin(arguments, Any, Any, model=bert())
    assert not sink.runs
