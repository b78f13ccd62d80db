"""Recurrent models: fused modules in all their forms, and cells in a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.problems.base import Problem, network, weigh

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two_layers": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "batch_first": {"batch_first": True},
    "no_bias": {"bias": False},
    "dropout": {"num_layers": 2, "dropout": 0.3},
    "deep_bidirectional": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


class Reader(nn.Module):
    """A fused recurrent module under a linear head; reads the last step or all of them."""

    def __init__(self, core: nn.Module, last: bool, width: int) -> None:
        super().__init__()
        self.core = core
        self.last = last
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.core(x)
        if self.last:
            y = y[:, -1] if getattr(self.core, "batch_first", False) else y[-1]
        return self.head(y)


class Looped(nn.Module):
    """A cell in a Python loop."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        state: Any = None
        out = []
        for step in x:
            state = self.cell(step, state) if state is not None else self.cell(step)
            out.append(state[0] if isinstance(state, tuple) else state)
        return self.head(torch.stack(out))


class Language(nn.Module):
    """Embedding, LSTM, head: a character model in small."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 2)
        self.lstm = nn.LSTM(2, 2, batch_first=True)
        self.head = nn.Linear(2, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(tokens))[0])


class Packed(nn.Module):
    """An LSTM over a packed batch of unequal lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 2]))
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0])[0]


def _language_loss(m: Any, _: Tensor) -> Tensor:
    tokens = torch.tensor([[0, 3, 1, 3], [2, 2, 4, 0]])
    return F.cross_entropy(m(tokens[:, :-1]).reshape(-1, 5), tokens[:, 1:].reshape(-1))


def problems() -> list[Problem]:
    """Recurrent problems."""
    kinds: dict[str, Callable[..., nn.Module]] = {
        "rnn_tanh": nn.RNN,
        "rnn_relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
        "lstm": nn.LSTM,
        "gru": nn.GRU,
    }
    found = []
    for kind, core in kinds.items():
        for form, kwargs in FORMS.items():
            width = 2 * (2 if kwargs.get("bidirectional") else 1)
            for last in (True, False):
                if not last and form not in ("plain", "two_layers"):
                    continue
                found.append(
                    network(
                        f"recurrent/{kind}_{form}_{'last' if last else 'all'}",
                        lambda core=core, kwargs=kwargs, last=last, width=width: Reader(
                            core(3, 2, **kwargs), last, width
                        ),
                        lambda m, x: weigh(m(x)),
                        x=(2, 3, 3) if kwargs.get("batch_first") else (3, 2, 3),
                    )
                )
    found += [
        network("recurrent/lstm_proj", lambda: Reader(nn.LSTM(3, 3, proj_size=2), False, 2), lambda m, x: weigh(m(x)),
                x=(3, 1, 3)),
        network("recurrent/lstm_unbatched", lambda: Reader(nn.LSTM(3, 2), False, 2), lambda m, x: weigh(m(x)),
                x=(3, 3)),
        network("recurrent/lstm_cell_state", lambda: nn.LSTM(3, 2), lambda m, x: weigh(m(x)[1][1]), x=(3, 1, 3)),
        network("recurrent/lstm_packed", Packed, lambda m, x: weigh(m(x)), x=(3, 2, 3)),
        network("recurrent/lstm_cell", lambda: Looped(nn.LSTMCell(3, 2)), lambda m, x: weigh(m(x)), x=(3, 1, 3)),
        network("recurrent/gru_cell", lambda: Looped(nn.GRUCell(3, 2)), lambda m, x: weigh(m(x)), x=(3, 1, 3)),
        network("recurrent/rnn_cell", lambda: Looped(nn.RNNCell(3, 2)), lambda m, x: weigh(m(x)), x=(3, 1, 3)),
        network("recurrent/language", Language, _language_loss),
    ]  # fmt: skip
    return found
