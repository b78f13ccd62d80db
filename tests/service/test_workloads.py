"""Workloads: they learn, and their data comes in an order that seed and epoch decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradtrace.service.runner import build
from gradtrace.service.spec import spec_from_text
from gradtrace.service.workloads import WORKLOADS
from gradtrace.service.workloads.char_lstm import ALPHABET, encode, windows
from gradtrace.service.workloads.stdlib_text import read_stdlib
from gradtrace.tracer.errors import SpecError


def trained(workload: str, **parameters: str) -> tuple[dict[str, float], dict[str, float]]:
    """Held-out metrics before and after plain training, without any tracer."""
    spec = spec_from_text(workload, parameters)
    instance = build(spec)
    before = instance.evaluate()
    for epoch in range(spec.parameters.epochs):
        for index in range(len(instance.batches)):
            instance.optimizer.zero_grad()
            instance.loss(instance.batches.batch(epoch, index)).backward()
            instance.optimizer.step()
    return before, instance.evaluate()


def test_char_lstm_learns() -> None:
    before, after = trained("char-lstm", epochs="3")
    assert before["loss"] > 4.4  # the logarithm of 97 classes is 4.57
    assert after["loss"] < 0.65 * before["loss"]
    assert after["accuracy"] > 0.3


def test_digits_mlp_learns() -> None:
    before, after = trained("digits-mlp")
    assert before["loss"] > 2.2  # the logarithm of 10 classes is 2.30
    assert after["loss"] < 0.2 * before["loss"]
    assert after["accuracy"] > 0.9


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_batches_can_be_made_again_from_their_position(workload: str) -> None:
    batches = build(spec_from_text(workload, {"seed": "3"})).batches
    again = build(spec_from_text(workload, {"seed": "3"})).batches
    other = build(spec_from_text(workload, {"seed": "4"})).batches
    torch.rand(7)  # the global random state must not matter
    for epoch, index in [(4, 2), (0, 0), (1, len(batches) - 1)]:
        for mine, same in zip(batches.batch(epoch, index), again.batch(epoch, index), strict=True):
            assert torch.equal(mine, same)
    assert not torch.equal(batches.order(0), batches.order(1))
    assert not torch.equal(batches.order(0), other.order(0))
    assert sorted(batches.order(0).tolist()) == list(range(len(batches.inputs)))


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_an_epoch_shows_every_example_once(workload: str) -> None:
    batches = build(spec_from_text(workload, {})).batches
    rows = torch.cat([batches.batch(1, i)[0] for i in range(len(batches))])
    assert torch.equal(rows, batches.inputs[batches.order(1)])


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_evaluation_leaves_model_and_random_state_alone(workload: str) -> None:
    wanted = {"dropout": "0.3", "layers": "2"}
    known = WORKLOADS[workload].parameters.model_fields
    instance = build(spec_from_text(workload, {name: value for name, value in wanted.items() if name in known}))
    weights = [p.clone() for p in instance.model.parameters()]
    state = torch.get_rng_state()
    assert instance.evaluate() == instance.evaluate()
    assert instance.model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in instance.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, instance.model.parameters(), strict=True))


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_the_probe_batch_is_not_trained_on(workload: str) -> None:
    instance = build(spec_from_text(workload, {}))
    inputs = instance.batches.inputs
    assert len(instance.probe[0]) > 0
    assert not (inputs[:, None].flatten(2) == instance.probe[0][None].flatten(2)).all(-1).any()


def test_stdlib_text_is_bounded_sorted_and_the_same_each_time() -> None:
    text = read_stdlib(20_000)
    assert len(text.text) == 20_000
    assert list(text.modules) == sorted(text.modules)
    assert len(text.modules) > 2
    assert text == read_stdlib(20_000)
    assert read_stdlib(5_000).text == text.text[:5_000]


def test_too_much_text_is_refused_with_the_number_that_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n" * 1000)
    (tmp_path / "b.py").write_bytes(b"\xff\xfe not ASCII")
    with pytest.raises(SpecError, match=r"wants 7,000 characters .* found 6,000 in .*--set characters=5400"):
        read_stdlib(7_000, tmp_path)
    with pytest.raises(SpecError, match=r"found 0 in"):
        read_stdlib(10, tmp_path / "nowhere")


def test_windows_predict_the_next_character() -> None:
    codes = encode("def f(x):\n\treturn x\u00e9")
    assert [ALPHABET[c] for c in codes] == [*"def f(x):\n\treturn x", " "]
    inputs, targets = windows(codes, 4)
    assert inputs.shape == targets.shape == (4, 4)
    assert torch.equal(inputs.flatten()[1:], targets.flatten()[:-1])


def test_settings_that_make_no_sense_together_are_refused() -> None:
    with pytest.raises(SpecError, match=r"dropout=0\.2 between LSTM layers, but layers=1"):
        build(spec_from_text("char-lstm", {"dropout": "0.2"}))
    with pytest.raises(SpecError, match=r"sequence_length=500, but only 200 held-out characters"):
        build(spec_from_text("char-lstm", {"sequence_length": "500", "characters": "2000"}))


def test_listing_workloads_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from gradtrace.service.workloads import WORKLOADS\n"
        "print(*WORKLOADS, 'torch' in sys.modules, 'sklearn' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *names, torch_loaded, sklearn_loaded = done.stdout.split()
    assert names == list(WORKLOADS)
    assert (torch_loaded, sklearn_loaded) == ("False", "False")
