"""`transformer`: encoder and decoder of attention alone, saying sequences backwards (Vaswani et al. 2017, "Attention Is
All You Need"), with layer norms in front of each part (Xiong et al. 2020), which needs no warm-up."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gradtrace.service.workloads.architecture_parameters import TransformerParameters
from gradtrace.service.workloads.generated import PROBE_SIZE, divided
from gradtrace.service.workloads.instance import WorkloadInstance, classifier
from gradtrace.service.workloads.reversal import examples
from gradtrace.tracer import component, tap
from gradtrace.tracer.errors import SpecError

CLIP = 1.0


class Attention(nn.Module):
    """Attention with several heads; components `queries`, `keys`, `values`, `scores`, `weights`, `mix`, `out`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Linear(width, width)
        self.keys = nn.Linear(width, width)
        self.values = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.heads = heads

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, source: Tensor, causal: bool = False) -> Tensor:
        """[batch, time, width] for x of that shape, which looks at source [batch, time', width]."""
        queries, keys, values = (
            self._split(f(y)) for f, y in ((self.queries, x), (self.keys, source), (self.values, source))
        )
        with component("scores"):
            scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[-1])
            if causal:
                later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
                scores = scores.masked_fill(later, -math.inf)
        with component("weights"):
            weights = torch.softmax(scores, 3)
        with component("mix"):
            mixed = weights @ values
        return self.out(mixed.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with ReLU between them, at each place for itself."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.second = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, width] of the same."""
        return self.second(torch.relu(self.first(x)))


class Layer(nn.Module):
    """A layer of the encoder, or with `cross` of the decoder.

    Components `self_attention`, `cross_attention`, `feed_forward`, their `norms`, and the ways past each of them:
    `skip.self_attention`, `skip.cross_attention`, `skip.feed_forward`.
    """

    def __init__(self, p: TransformerParameters, cross: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(p.width) for _ in range(3 if cross else 2))
        self.self_attention = Attention(p.width, p.heads)
        self.cross_attention = Attention(p.width, p.heads) if cross else None
        self.feed_forward = FeedForward(p.width, p.feed_forward)

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """[batch, time, width] of the same; a decoder also looks at the encoder's output."""
        y = self.norms[0](x)
        x = tap(x, "skip.self_attention", role="skip") + self.self_attention(y, y, causal=source is not None)
        if self.cross_attention is not None and source is not None:
            x = tap(x, "skip.cross_attention", role="skip") + self.cross_attention(self.norms[1](x), source)
        return tap(x, "skip.feed_forward", role="skip") + self.feed_forward(self.norms[-1](x))


class Side(nn.Module):
    """Encoder or decoder: symbols and places embedded and added, layers, a norm."""

    def __init__(self, p: TransformerParameters, cross: bool) -> None:
        super().__init__()
        self.symbols = nn.Embedding(p.symbols + 1, p.width)
        self.places = nn.Embedding(p.length, p.width)
        self.layers = nn.ModuleList(Layer(p, cross) for _ in range(p.layers))
        self.norm = nn.LayerNorm(p.width)

    def forward(self, symbols: Tensor, source: Tensor | None = None) -> Tensor:
        """[batch, time, width] for symbols [batch, time]."""
        x = self.symbols(symbols) + self.places(torch.arange(symbols.shape[1], device=symbols.device))
        for layer in self.layers:
            x = layer(x, source)
        return self.norm(x)


class Transformer(nn.Module):
    """Components `encoder`, `decoder` (with `layers.0`, ... each) and `head`."""

    def __init__(self, p: TransformerParameters) -> None:
        super().__init__()
        self.encoder = Side(p, cross=False)
        self.decoder = Side(p, cross=True)
        self.head = nn.Linear(p.width, p.symbols)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, length, symbols] for sequences with what the decoder is fed [batch, 2 · length]."""
        source, fed = inputs.chunk(2, 1)
        return self.head(self.decoder(fed, self.encoder(source)))


def build(parameters: TransformerParameters) -> WorkloadInstance:
    """Make up the sequences and the model. Draws the weights from torch's global random state."""
    if parameters.width % parameters.heads:
        raise SpecError(
            f"transformer has width={parameters.width}, which heads={parameters.heads} does not divide. "
            f"Say --set width={parameters.heads * max(parameters.width // parameters.heads, 1)}, or another number of heads."
        )
    training, held_out = divided(*examples(parameters), parameters)
    return classifier(
        Transformer(parameters), parameters.lr, training, held_out, probe_size=PROBE_SIZE, notes=(), clip=CLIP
    )
