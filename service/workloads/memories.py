"""Differentiable stacks and queues, each a module whose regions are the components `push`, `pop`, `keep` and `read`.

A memory is worked once a step by the hidden state of a controller. Its own parameters say what the controller does with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradtrace.tracer import component, tap

CLIP = 1.0
"""Norm to which the workloads cut gradients."""


class SuperpositionStack(nn.Module):
    """The stack of Joulin & Mikolov 2015, "Inferring Algorithmic Patterns with Stack-Augmented Recurrent Nets".

    The next stack is a mixture of what pushing, popping and keeping would make of it.

    Args:
        hidden: width of the controller's state.
        cell: width of a cell.
        depth: cells; what is pushed below the last one is lost.
    """

    def __init__(self, hidden: int, cell: int, depth: int) -> None:
        super().__init__()
        self.action = nn.Linear(hidden, 3)
        self.value = nn.Linear(hidden, cell)
        self.cell, self.depth = cell, depth

    def start(self, like: Tensor) -> Tensor:
        """Empty stacks [batch, depth, cell] for hidden states [batch, hidden]."""
        return like.new_zeros(len(like), self.depth, self.cell)

    def forward(self, hidden: Tensor, stack: Tensor) -> tuple[Tensor, Tensor]:
        """What is read [batch, cell] after this step, and the next stack [batch, depth, cell]."""
        with component("action"):
            push, pop, keep = torch.softmax(self.action(hidden), 1)[:, :, None, None].unbind(1)
        with component("push"):
            value = torch.sigmoid(self.value(hidden))[:, None]
            pushed = push * torch.cat([value, stack[:, :-1]], 1)
        with component("pop"):
            popped = pop * torch.cat([stack[:, 1:], torch.zeros_like(value)], 1)
        with component("keep", role="skip"):
            kept = keep * stack
        stack = pushed + popped + kept
        return tap(stack[:, 0], "read"), stack


@dataclass(frozen=True, slots=True)
class Strengths:
    """The state of a stack or queue with strengths: values [batch, time, cell] and strengths [batch, time], oldest first."""

    values: Tensor
    strengths: Tensor


class StrengthMemory(nn.Module):
    """The stack or the queue of Grefenstette et al. 2015, "Learning to Transduce with Unbounded Memory".

    Every value ever pushed is kept, with a strength. Popping takes strength away, from the newest down in a stack, from
    the oldest up in a queue; reading weighs the first values, in the same order, whose strengths make up 1.

    Args:
        hidden: width of the controller's state.
        cell: width of a value.
        queue: a queue instead of a stack.
    """

    def __init__(self, hidden: int, cell: int, *, queue: bool) -> None:
        super().__init__()
        self.push = nn.Linear(hidden, 1)
        self.pop = nn.Linear(hidden, 1)
        self.value = nn.Linear(hidden, cell)
        nn.init.constant_(
            self.pop.bias, -1.0
        )  # as in the paper: popping starts rare, so that there is something to read
        self.cell, self.queue = cell, queue

    def start(self, like: Tensor) -> Strengths:
        """Empty memories for hidden states [batch, hidden]."""
        return Strengths(like.new_zeros(len(like), 0, self.cell), like.new_zeros(len(like), 0))

    def before(self, strengths: Tensor) -> Tensor:
        """Strength [batch, time] of all that comes before each value: the newer ones in a stack, the older in a queue."""
        ones = strengths.new_ones(strengths.shape[1], strengths.shape[1])
        return strengths @ (ones.triu(1) if self.queue else ones.tril(-1))

    def forward(self, hidden: Tensor, state: Strengths) -> tuple[Tensor, Strengths]:
        """What is read [batch, cell] after this step, and the next state."""
        strengths = state.strengths
        with component("pop"):
            gone = torch.sigmoid(self.pop(hidden))
            if strengths.shape[1]:
                taken = torch.relu(gone - self.before(strengths))
                strengths = torch.relu(strengths - taken)
        with component("push"):
            value = torch.tanh(self.value(hidden))
            strengths = torch.cat([strengths, torch.sigmoid(self.push(hidden))], 1)
        values = torch.cat([state.values, value[:, None]], 1)
        with component("read"):
            weights = torch.minimum(strengths, torch.relu(1 - self.before(strengths)))
            read = torch.bmm(weights[:, None], values)[:, 0]
        return read, Strengths(values, strengths)


class MemoryRnn(nn.Module):
    """A recurrent controller that reads a symbol and what its memory held on top, and works the memory.

    Components `embed`, `controller`, `head`, and the memory under the name that it is given.

    Args:
        vocabulary: classes.
        hidden: width of the controller's state.
        cell: width of what the memory gives.
        lstm: the controller is an LSTM instead of an Elman network.
        name: component of the memory.
        memory: the memory.
    """

    def __init__(self, vocabulary: int, hidden: int, cell: int, lstm: bool, name: str, memory: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, hidden)
        self.controller = (nn.LSTMCell if lstm else nn.RNNCell)(hidden + cell, hidden)
        self.add_module(name, memory)
        self.head = nn.Linear(hidden, vocabulary)
        self.hidden, self.cell, self.name = hidden, cell, name

    def forward(self, symbols: Tensor) -> Tensor:
        """Logits [batch, time, classes] of the next symbol for symbols [batch, time]."""
        memory: Any = self.get_submodule(self.name)
        embedded = self.embed(symbols).unbind(1)
        zeros = embedded[0].new_zeros(len(symbols), self.hidden)
        state: Any = (zeros, zeros) if isinstance(self.controller, nn.LSTMCell) else zeros
        read = zeros.new_zeros(len(symbols), self.cell)
        content = memory.start(zeros)
        hidden = []
        for x in embedded:
            state = self.controller(torch.cat([x, read], 1), state)
            now = state[0] if isinstance(state, tuple) else state
            read, content = memory(now, content)
            hidden.append(now)
        return self.head(torch.stack(hidden, 1))
