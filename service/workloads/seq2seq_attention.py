"""`seq2seq-attention`: encoder-decoder with additive attention, saying sequences backwards (Bahdanau, Cho & Bengio 2015,
"Neural Machine Translation by Jointly Learning to Align and Translate")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import Seq2seqAttentionParameters
from gradtrace.service.workloads.generated import PROBE_SIZE, divided
from gradtrace.service.workloads.instance import WorkloadInstance, classifier
from gradtrace.service.workloads.reversal import examples
from gradtrace.tracer import component

CLIP = 1.0


class AdditiveAttention(nn.Module):
    """Weighs the encoder's states by v·tanh(W s + U h).

    Components `query` (W s), `keys` (U h), `score`, `weights` (the softmax) and `context` (the weighted sum).
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, hidden)
        self.keys = nn.Linear(2 * hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, state: Tensor, keys: Tensor, states: Tensor) -> Tensor:
        """The context [batch, 2 · hidden].

        Args:
            state: the decoder's state before this step [batch, hidden].
            keys: `self.keys(states)` [batch, time, hidden], the same for all steps.
            states: the encoder's states [batch, time, 2 · hidden].
        """
        query = self.query(state)[:, None]
        with component("score"):
            scores = self.score(torch.tanh(query + keys))[:, :, 0]
        with component("weights"):
            weights = torch.softmax(scores, 1)
        with component("context"):
            return torch.bmm(weights[:, None], states)[:, 0]


class Seq2seqAttention(nn.Module):
    """Bidirectional GRU encoder, GRU decoder with attention; components `embed`, `encoder`, `bridge`, `attention`,
    `decoder`, `head`."""

    def __init__(self, symbols: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(symbols + 1, hidden)
        self.encoder = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(hidden, hidden)
        self.attention = AdditiveAttention(hidden)
        self.decoder = nn.GRUCell(3 * hidden, hidden)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, length, symbols] for sequences with what the decoder is fed [batch, 2 · length]."""
        source, fed = inputs.chunk(2, 1)
        states, final = self.encoder(self.embed(source))
        state = torch.tanh(self.bridge(final[1]))  # the backward direction's, as in the paper
        keys = self.attention.keys(states)
        answers = []
        for symbol in self.embed(fed).unbind(1):
            context = self.attention(state, keys, states)
            state = self.decoder(torch.cat([symbol, context], 1), state)
            answers.append(state)
        return self.head(torch.stack(answers, 1))


def build(parameters: Seq2seqAttentionParameters) -> WorkloadInstance:
    """Make up the sequences and the model. Draws the weights from torch's global random state."""
    model = Seq2seqAttention(parameters.symbols, parameters.hidden)
    training, held_out = divided(*examples(parameters), parameters)
    return classifier(model, parameters.lr, training, held_out, probe_size=PROBE_SIZE, notes=(), clip=CLIP)
