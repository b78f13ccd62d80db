"""The reversal task of the two encoder-decoder models: say a sequence of symbols backwards."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor

from gradtrace.service.workloads.architecture_parameters import SequencePairParameters
from gradtrace.service.workloads.generated import distinct


def examples(parameters: SequencePairParameters) -> tuple[Tensor, Tensor]:
    """Inputs [examples, 2 · length] and targets [examples, length].

    An input is the sequence, followed by what the decoder is fed: a start symbol (number `symbols`) and the answer but
    for its last symbol.
    """
    draw = Random(parameters.seed)
    found = distinct(
        lambda: tuple(draw.randrange(parameters.symbols) for _ in range(parameters.length)),
        parameters.examples + parameters.held_out,
        "length or symbols",
    )
    sequences = torch.tensor(found)
    answers = sequences.flip(1)
    start = torch.full((len(found), 1), parameters.symbols)
    return torch.cat([sequences, start, answers[:, :-1]], 1), answers
