"""`rnn`, `lstm` and `gru` on long-lag copying and on adding.

The networks: Elman 1990, "Finding Structure in Time"; Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", with the
forget gate of Gers et al. 2000; Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder". The tasks
are those of Hochreiter & Schmidhuber (their experiments 2 and 4): keep symbols in mind while others pass that mean
nothing, and add the two numbers of a sequence that are marked.
"""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import LstmParameters, RecurrentParameters, RnnParameters
from gradtrace.service.workloads.generated import PROBE_SIZE, distinct, divided, generator
from gradtrace.service.workloads.instance import IGNORE, WorkloadInstance, classifier, supervised

CLOSE = 0.1
"""A sum counts as right if it is at most so far off."""
CLIP = 1.0


def core(parameters: RecurrentParameters, inputs: int) -> nn.RNNBase:
    """The recurrent network itself, with a start that lets gradients reach far back."""
    hidden, layers = parameters.hidden, parameters.layers
    if isinstance(parameters, LstmParameters):
        lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
        for layer in range(layers):
            bias = getattr(lstm, f"bias_hh_l{layer}")
            with torch.no_grad():
                bias[hidden : 2 * hidden] = parameters.forget_bias
        return lstm
    if isinstance(parameters, RnnParameters):
        rnn = nn.RNN(inputs, hidden, layers, batch_first=True)
        for layer in range(layers):
            nn.init.orthogonal_(getattr(rnn, f"weight_hh_l{layer}"))
        return rnn
    return nn.GRU(inputs, hidden, layers, batch_first=True)


class Copier(nn.Module):
    """Embedding, recurrent network, linear head; components `embed`, `recurrent` with its parts, and `head`."""

    def __init__(self, parameters: RecurrentParameters) -> None:
        super().__init__()
        classes = vocabulary(parameters)
        self.embed = nn.Embedding(classes, parameters.hidden)
        self.recurrent = core(parameters, parameters.hidden)
        self.head = nn.Linear(parameters.hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, time, classes] for tokens [batch, time]."""
        return self.head(self.recurrent(self.embed(tokens))[0])


class Adder(nn.Module):
    """Recurrent network and a linear head that reads its last step; components `recurrent` and `head`."""

    def __init__(self, parameters: RecurrentParameters) -> None:
        super().__init__()
        self.recurrent = core(parameters, 2)
        self.head = nn.Linear(parameters.hidden, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Sums [batch] for pairs (number, mark) [batch, time, 2]."""
        return self.head(self.recurrent(pairs)[0][:, -1]).squeeze(1)


def vocabulary(parameters: RecurrentParameters) -> int:
    """Classes of the copying task: symbols, fillers, and the mark that asks for the next symbol."""
    return parameters.symbols + parameters.fillers + 1


def copying(parameters: RecurrentParameters) -> tuple[Tensor, Tensor]:
    """Symbols, then fillers, then marks, at which the symbols are asked for: tokens and targets [examples, time]."""
    draw = Random(parameters.seed)
    first_filler = parameters.symbols
    mark = vocabulary(parameters) - 1

    def one() -> tuple[tuple[int, ...], tuple[int, ...]]:
        items = tuple(draw.randrange(parameters.symbols) for _ in range(parameters.items))
        lag = tuple(first_filler + draw.randrange(parameters.fillers) for _ in range(parameters.lag))
        return (*items, *lag, *[mark] * len(items)), (*[IGNORE] * (len(items) + len(lag)), *items)

    found = distinct(one, parameters.examples + parameters.held_out, "lag, fillers, items or symbols")
    return torch.tensor([tokens for tokens, _ in found]), torch.tensor([targets for _, targets in found])


def adding(parameters: RecurrentParameters) -> tuple[Tensor, Tensor]:
    """Numbers in [0, 1], two of them marked, one in each half: pairs [examples, lag + 2, 2] and sums [examples]."""
    random = generator(parameters)
    count, time = parameters.examples + parameters.held_out, parameters.lag + 2
    numbers = torch.rand(count, time, generator=random)
    marks = torch.zeros(count, time)
    rows = torch.arange(count)
    half = time // 2
    marks[rows, torch.randint(half, (count,), generator=random)] = 1
    marks[rows, half + torch.randint(time - half, (count,), generator=random)] = 1
    return torch.stack([numbers, marks], 2), (numbers * marks).sum(1)


def build(parameters: RecurrentParameters) -> WorkloadInstance:
    """Make up the task's examples and the model. Draws the weights from torch's global random state."""
    shared: dict[str, Any] = {"probe_size": PROBE_SIZE, "notes": (), "clip": CLIP}
    if parameters.task == "copying":
        training, held_out = divided(*copying(parameters), parameters)
        return classifier(Copier(parameters), parameters.lr, training, held_out, **shared)
    training, held_out = divided(*adding(parameters), parameters)
    return supervised(
        Adder(parameters),
        parameters.lr,
        training,
        held_out,
        loss=nn.functional.mse_loss,
        accuracy=lambda sums, targets: ((sums - targets).abs() <= CLOSE).double().mean(),
        **shared,
    )
