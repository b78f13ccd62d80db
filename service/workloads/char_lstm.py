"""`char-lstm`: a character language model on the source of Python's standard library."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.instance import Batch, Batches, WorkloadInstance, classifier
from gradtrace.service.workloads.parameters import CharLstmParameters
from gradtrace.service.workloads.stdlib_text import read_stdlib
from gradtrace.tracer.errors import SpecError

ALPHABET = "\n\t" + "".join(map(chr, range(32, 127)))
"""Newline, tab and printable ASCII: the classes of the model. Anything else reads as a space."""
HELD_OUT = 0.1


class CharLstm(nn.Module):
    """Embedding, LSTM and a linear head: logits of the next character at every place."""

    def __init__(self, embedding: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(ALPHABET), embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, dropout=dropout, batch_first=True)
        self.head = nn.Linear(hidden, len(ALPHABET))

    def forward(self, characters: Tensor) -> Tensor:
        """Logits [batch, time, classes] of the next character, for characters [batch, time]."""
        hidden, _ = self.lstm(self.embed(characters))
        return self.head(hidden)


def build(parameters: CharLstmParameters) -> WorkloadInstance:
    """Read the text, cut it in windows, make the model. Draws the weights from torch's global random state."""
    if parameters.dropout and parameters.layers == 1:
        raise SpecError(
            f"char-lstm has dropout={parameters.dropout} between LSTM layers, but layers=1. "
            "Say --set layers=2, or leave dropout out."
        )
    held_out = int(parameters.characters * HELD_OUT)
    source = read_stdlib(parameters.characters + held_out)
    codes = encode(source.text)
    length = parameters.sequence_length
    training = windows(codes[: parameters.characters], length)
    test = windows(codes[parameters.characters :], length)
    if not len(test[0]):
        raise SpecError(
            f"char-lstm has sequence_length={length}, but only {held_out} held-out characters. "
            f"Say --set characters={(length + 2) * 10} or more, or a shorter sequence_length."
        )
    model = CharLstm(parameters.embedding, parameters.hidden, parameters.layers, parameters.dropout)
    first, last = source.modules[0], source.modules[-1]
    return classifier(
        model,
        parameters.lr,
        Batches(*training, parameters.batch_size, parameters.seed),
        test,
        probe_size=parameters.batch_size,
        notes=(
            f"Read {len(source.text):,} characters from {len(source.modules)} modules of Python's standard library "
            f"({first} to {last}); the last {held_out:,} are held out.",
        ),
    )


def encode(text: str) -> Tensor:
    """Class numbers [characters] of a text.

    >>> encode("\\n~").tolist()
    [0, 96]
    """
    number = {c: i for i, c in enumerate(ALPHABET)}
    return torch.tensor([number.get(c, number[" "]) for c in text], dtype=torch.long)


def windows(codes: Tensor, length: int) -> Batch:
    """All whole windows that do not overlap: characters [windows, length], and the same one place further on."""
    count = (len(codes) - 1) // length
    used = codes[: count * length + 1]
    return used[:-1].reshape(count, length), used[1:].reshape(count, length)
