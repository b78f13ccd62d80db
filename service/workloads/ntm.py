"""`ntm`: a Neural Turing Machine on the copy task (Graves, Wayne & Danihelka 2014, "Neural Turing Machines").

A sequence of random bit vectors, a mark, then silence, in which the machine is to say the sequence again. The memory
starts constant, which Collier & Beel 2018 ("Implementing Neural Turing Machines") found to learn fastest.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import NtmParameters
from gradtrace.service.workloads.generated import PROBE_SIZE, distinct, divided
from gradtrace.service.workloads.instance import IGNORE, WorkloadInstance, supervised
from gradtrace.service.workloads.ntm_memory import ReadHead, WriteHead

CLIP = 1.0
START = 1e-6
"""What every scalar of the memory is at the start."""


class Ntm(nn.Module):
    """Controller, one write head and one read head, and a linear head for the answer.

    Components `controller`, `write` and `read` with their regions (see `ntm_memory`), and `head`.
    """

    def __init__(self, parameters: NtmParameters) -> None:
        super().__init__()
        hidden, self.cell, self.slots = parameters.hidden, parameters.cell, parameters.slots
        inputs = parameters.bits + 2 + self.cell
        self.controller = nn.LSTMCell(inputs, hidden) if parameters.controller == "lstm" else nn.Linear(inputs, hidden)
        self.write = WriteHead(hidden, self.cell)
        self.read = ReadHead(hidden, self.cell)
        self.head = nn.Linear(hidden + self.cell, parameters.bits)
        self.hidden = hidden

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits of bits [batch, time, bits] for vectors [batch, time, bits + 2]."""
        batch = len(vectors)
        memory = vectors.new_full((batch, self.slots, self.cell), START)
        first = vectors.new_zeros(batch, self.slots)
        first[:, 0] = 1
        writing = reading = first
        read = vectors.new_zeros(batch, self.cell)
        state: Any = (vectors.new_zeros(batch, self.hidden), vectors.new_zeros(batch, self.hidden))
        answers = []
        for vector in vectors.unbind(1):
            x = torch.cat([vector, read], 1)
            if isinstance(self.controller, nn.LSTMCell):
                state = self.controller(x, state)
                hidden = state[0]
            else:
                hidden = torch.tanh(self.controller(x))
            memory, writing = self.write(hidden, memory, writing)
            read, reading = self.read(hidden, memory, reading)
            answers.append(torch.cat([hidden, read], 1))
        return self.head(torch.stack(answers, 1))


def examples(parameters: NtmParameters) -> tuple[Tensor, Tensor]:
    """Vectors [examples, time, bits + 2] and the bits that are asked for [examples, time, bits], elsewhere `IGNORE`.

    The two further places of a vector mark where the answer begins, and where something is to be said.
    """
    draw = Random(parameters.seed)
    bits = parameters.bits

    def one() -> tuple[tuple[int, ...], ...]:
        length = draw.randint(parameters.min_length, parameters.max_length)
        return tuple(tuple(draw.randrange(2) for _ in range(bits)) for _ in range(length))

    found = distinct(one, parameters.examples + parameters.held_out, "max_length or bits")
    time = 2 * parameters.max_length + 1
    inputs = torch.zeros(len(found), time, bits + 2)
    targets = torch.full((len(found), time, bits), float(IGNORE))
    for row, sequence in enumerate(found):
        n = len(sequence)
        inputs[row, :n, :bits] = torch.tensor(sequence, dtype=torch.float32)
        inputs[row, n, bits] = 1
        inputs[row, n + 1 : 2 * n + 1, bits + 1] = 1
        targets[row, n + 1 : 2 * n + 1] = torch.tensor(sequence, dtype=torch.float32)
    return inputs, targets


def bit_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of the bits that are asked for."""
    asked = (targets != IGNORE).to(logits.dtype)
    # The weights keep the shape the same for every batch; nothing is asked where they are 0.
    total = nn.functional.binary_cross_entropy_with_logits(logits, targets.clamp_min(0), asked, reduction="sum")
    return total / asked.sum()


def bits_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Part of the bits asked for that are right."""
    asked = targets != IGNORE
    return ((logits > 0) == (targets > 0))[asked].double().mean()


def build(parameters: NtmParameters) -> WorkloadInstance:
    """Make up the sequences and the machine. Draws the weights from torch's global random state."""
    training, held_out = divided(*examples(parameters), parameters)
    return supervised(
        Ntm(parameters),
        parameters.lr,
        training,
        held_out,
        loss=bit_entropy,
        accuracy=bits_right,
        probe_size=PROBE_SIZE,
        notes=(),
        clip=CLIP,
    )
