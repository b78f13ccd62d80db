"""Workloads: they learn, and their data comes in an order that seed and epoch decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from gradtrace.service.runner import build
from gradtrace.service.spec import RunSpec, spec_from_text
from gradtrace.service.workloads import WORKLOADS
from gradtrace.service.workloads.char_lstm import ALPHABET, encode, windows
from gradtrace.service.workloads.instance import IGNORE
from gradtrace.service.workloads.languages import LONGEST, Vocabulary, draw_word
from gradtrace.service.workloads.memories import StrengthMemory, SuperpositionStack
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


def quick(workload: str, **wanted: str) -> RunSpec:
    """The workload with few examples where they are made up, and with those of the wanted parameters that it has."""
    known = WORKLOADS[workload].parameters.model_fields
    every = {"examples": "100", "held_out": "40", **wanted}
    return spec_from_text(workload, {name: value for name, value in every.items() if name in known})


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
    batches = build(quick(workload, seed="3")).batches
    again = build(quick(workload, seed="3")).batches
    other = build(quick(workload, seed="4")).batches
    torch.rand(7)  # the global random state must not matter
    for epoch, index in [(4, 2), (0, 0), (1, len(batches) - 1)]:
        for mine, same in zip(batches.batch(epoch, index), again.batch(epoch, index), strict=True):
            assert torch.equal(mine, same)
    assert not torch.equal(batches.order(0), batches.order(1))
    assert not torch.equal(batches.order(0), other.order(0))
    assert sorted(batches.order(0).tolist()) == list(range(len(batches.inputs)))


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_an_epoch_shows_every_example_once(workload: str) -> None:
    batches = build(quick(workload)).batches
    rows = torch.cat([batches.batch(1, i)[0] for i in range(len(batches))])
    assert torch.equal(rows, batches.inputs[batches.order(1)])


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_evaluation_leaves_model_and_random_state_alone(workload: str) -> None:
    instance = build(quick(workload, dropout="0.3", layers="2"))
    weights = [p.clone() for p in instance.model.parameters()]
    state = torch.get_rng_state()
    assert instance.evaluate() == instance.evaluate()
    assert instance.model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in instance.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, instance.model.parameters(), strict=True))


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_the_probe_batch_is_not_trained_on(workload: str) -> None:
    instance = build(quick(workload))
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


def test_words_are_of_their_language() -> None:
    vocabulary = Vocabulary(3)
    random = Random(0)
    for _ in range(20):
        marked, asked = draw_word("marked-reversal", random, vocabulary, 4)
        assert marked == (*marked[:4], vocabulary.mark, *marked[3::-1], vocabulary.end)
        assert asked == (*[False] * 5, *[True] * 5)
        unmarked, _ = draw_word("unmarked-reversal", random, vocabulary, 4)
        assert unmarked == (*unmarked[:4], *unmarked[3::-1], vocabulary.end)
        again, _ = draw_word("queue-copying", random, vocabulary, 4)
        assert again == (*again[:4], vocabulary.mark, *again[:4], vocabulary.end)
        long, _ = draw_word("padded-reversal", random, vocabulary, 4)
        symbols = [s for s in long if s != vocabulary.mark]
        assert symbols == [*symbols[:4], *symbols[3::-1], vocabulary.end]
        brackets, asked = draw_word("dyck", random, vocabulary, 4)
        opened: list[int] = []
        for symbol, closes in zip(brackets[:-1], asked[:-1], strict=True):
            assert closes == (symbol >= 3)
            if closes:
                assert opened.pop() == symbol - 3
            else:
                opened.append(symbol)
        assert not opened
        assert len(brackets) == 9


@pytest.mark.parametrize("language", list(LONGEST))
def test_a_model_is_asked_for_the_next_symbol(language: str) -> None:
    instance = build(spec_from_text("stack-rnn", {"language": language, "max_length": "4", "examples": "50"}))
    inputs, targets = instance.batches.inputs, instance.batches.targets
    asked = targets[:, :-1] != IGNORE
    assert asked.any()
    assert torch.equal(targets[:, :-1][asked], inputs[:, 1:][asked])


def test_more_examples_than_there_are_is_refused_with_their_number() -> None:
    with pytest.raises(
        SpecError, match=r"110 different examples .* 5,500 draws made 6\. .* raise max_length or symbols"
    ):
        build(spec_from_text("stack-rnn", {"symbols": "2", "max_length": "2", "examples": "100", "held_out": "10"}))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(SpecError, match=r"width=10, which heads=4 does not divide\. Say --set width=8"):
        build(spec_from_text("transformer", {"width": "10"}))


@pytest.mark.parametrize("queue", [False, True])
def test_what_a_memory_with_strengths_holds_is_read_in_its_order(queue: bool) -> None:
    """Pushed and popped whole, it is a stack or a queue like any other."""
    memory = StrengthMemory(3, 1, queue=queue).double()
    with torch.no_grad():
        for layer, at in ((memory.push, 0), (memory.pop, 1), (memory.value, 2)):
            layer.weight.zero_()
            layer.weight[0, at] = 1.0
            layer.bias.zero_()
    everything, nothing = 50.0, -50.0
    state = memory.start(torch.zeros(1, 3).double())
    read: list[float] = []
    for push, pop, value in [(1, 0, 0.1), (1, 0, 0.2), (1, 0, 0.3), (0, 1, 0.0), (0, 1, 0.0)]:
        act = [everything if push else nothing, everything if pop else nothing, value]
        got, state = memory(torch.tensor([act]).double(), state)
        read.append(float(torch.atanh(got.detach())))
    assert read == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.3] if queue else [0.1, 0.2, 0.3, 0.2, 0.1])


def test_a_superposition_stack_pops_what_was_pushed_last() -> None:
    stack = SuperpositionStack(3, 1, depth=4).double()
    with torch.no_grad():
        stack.action.weight.copy_(torch.eye(3)[[0, 1, 1]] * torch.tensor([[50.0], [50.0], [0.0]]))
        stack.action.bias.zero_()
        stack.value.weight.copy_(torch.tensor([[0.0, 0.0, 1.0]]))
        stack.value.bias.zero_()
    state = stack.start(torch.zeros(1, 3).double())
    read: list[float] = []
    for push, pop, value in [(1, 0, 0.1), (1, 0, 0.2), (1, 0, 0.3), (0, 1, 0.0), (0, 1, 0.0)]:
        got, state = stack(torch.tensor([[push, pop, value]]).double(), state)
        read.append(float(torch.logit(got.detach())))
    assert read == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.1])
