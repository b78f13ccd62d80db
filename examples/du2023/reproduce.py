"""Two experiments of Du et al. 2023, "Generalizing Backpropagation for Gradient-Based Interpretability" (ACL), with gradtrace.

python examples/du2023/reproduce.py            # both, as in the README
python examples/du2023/reproduce.py entropy    # one of them: entropy | keys
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradtrace.tracer import tap, trace

HIDDEN = (4, 8, 16, 32, 64, 128)
PUBLISHED = {4: 2.31, 8: 2.83, 16: 3.75, 32: 4.47, 64: 5.10, 128: 5.79}
BRANCHES = ("key", "value", "query", "skip")

# -- entropy against hidden size (their appendix B.1) ----------------------------------------------------------------


def four_features(points: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four numbers in [0, 1) of which only the first matters: the class is whether it is above one half."""
    x = torch.rand(points, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0.5).long()


def spelt_out(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross entropy as brunoflow computes it: the maximum is subtracted, exponentiated, summed, and added again."""
    top = logits.amax(-1, keepdim=True)
    logs = logits - (top + (logits - top).exp().sum(-1, keepdim=True).log())
    return -logs.gather(1, classes[:, None]).mean()


@dataclass(frozen=True)
class Entropies:
    """Mean over input scalars of the entropy of their paths: log-softmax as one operator, and spelt out."""

    hidden: int
    fused: float
    spelt_out: float
    accuracy: float


def entropy_of(hidden: int, seed: int, points: int = 10_000, held_out: int = 200) -> Entropies:
    """Train a network with one hidden layer for one epoch, and look at the paths of held-out inputs."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = four_features(points + held_out, seed)
    for start in range(0, int(0.7 * points), 32):
        optimizer.zero_grad()
        F.cross_entropy(model(x[start : start + 32]), y[start : start + 32]).backward()
        optimizer.step()
    inputs, classes = x[points:].clone().requires_grad_(), y[points:]
    means = []
    for loss in (F.cross_entropy, spelt_out):
        found = trace(lambda loss=loss: loss(model(inputs), classes), model, mode="entropy")
        entropy = found.spread(inputs).entropy
        assert entropy is not None  # the mode is entropy
        means.append(float(entropy.mean()))
    accuracy = float((model(inputs).argmax(1) == classes).float().mean())
    return Entropies(hidden, means[0], means[1], accuracy)


def entropy_table(hidden: Sequence[int], seeds: int, points: int = 10_000) -> list[Entropies]:
    """Means over several seeds, one row a hidden size."""
    rows = []
    for size in hidden:
        runs = [entropy_of(size, seed, points) for seed in range(seeds)]
        rows.append(
            Entropies(
                size,
                sum(r.fused for r in runs) / seeds,
                sum(r.spelt_out for r in runs) / seeds,
                sum(r.accuracy for r in runs) / seeds,
            )
        )
    return rows


# -- first token repeated once (their section 5.1) ---------------------------------------------------------------------


def first_token_repeated(points: int, seed: int, vocabulary: int = 20, length: int = 10) -> tuple[Tensor, Tensor]:
    """Sequences of tokens 1…; in half of them (class 1) the first token stands at just one other place too."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randint(1, vocabulary, (points, length), generator=drawn)
    others = torch.randint(1, vocabulary - 1, (points, length - 1), generator=drawn)
    x[:, 1:] = others + (others >= x[:, :1]).long()  # any token but the first
    y = torch.randint(2, (points,), generator=drawn)
    place = torch.randint(1, length, (points,), generator=drawn)
    x[torch.arange(points), place] = torch.where(y == 1, x[:, 0], x[torch.arange(points), place])
    return x, y


class Encoder(nn.Module):
    """BERT in small: one layer with two heads, norms after the sums, the first token's state classified."""

    def __init__(self, width: int = 16, heads: int = 2, vocabulary: int = 20, length: int = 10) -> None:
        super().__init__()
        self.heads = heads
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.pool, self.head = nn.Linear(width, width), nn.Linear(width, 2)
        self.drop = nn.Dropout(0.1)
        self.attended: Tensor | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.norms[0](self.token(tokens) + self.place.weight[: tokens.shape[1]]))
        self.attended = x
        q, k, v = (m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
        weights = self.drop((q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1))
        mixed = self.out((weights @ v).transpose(1, 2).flatten(2))
        x = self.norms[1](tap(x, "skip") + self.drop(mixed))
        x = self.norms[2](x + self.drop(self.feed(x)))
        return self.head(torch.tanh(self.pool(x[:, 0])))


def learn(model: Encoder, x: Tensor, y: Tensor, epochs: int) -> None:
    """Plain training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for at in order.split(128):
            optimizer.zero_grad()
            F.cross_entropy(model(x[at]), y[at]).backward()
            optimizer.step()


@dataclass(frozen=True)
class Keys:
    """Of the tokens in one role: how often each branch carries the path with the greatest product, and that product's mean."""

    role: str
    won: dict[str, float]
    product: dict[str, float]


def branches(model: Encoder, x: Tensor, y: Tensor) -> list[Keys]:
    """From the input of attention to the right class's logit: through which branch the greatest product of each token goes.

    As they do, the greatest over the units of a token's state counts for its branch, and nothing for the others.
    """
    model.eval()
    rows = torch.arange(len(x))
    found = trace(lambda: model(x)[rows, y].sum(), model, mode="maxprod")
    state = model.attended
    assert state is not None  # the forward pass kept it
    products: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for example, place in ((e, p) for e in range(x.shape[0]) for p in range(x.shape[1])):
        best, branch = 0.0, ""
        for unit in range(state.shape[2]):
            path = found.path(state, (example, place, unit))
            if path is None:
                continue
            product = math.exp(sum(math.log(abs(hop.weight)) for hop in path.hops))
            if product > best:
                best, branch = product, str(path.hops[0].component)
        repeated = int(y[example]) == 1 and int(x[example, place]) == int(x[example, 0])
        role = "first token" if place == 0 else "its repetition" if repeated else "other tokens"
        for name in (role, "all tokens"):
            products[name].append((branch, best))
    return [
        Keys(
            role,
            {b: sum(branch == b for branch, _ in held) / len(held) for b in BRANCHES},
            {b: sum(p for branch, p in held if branch == b) / len(held) for b in BRANCHES},
        )
        for role, held in sorted(products.items())
    ]


def keys_experiment(seed: int, points: int = 7000, epochs: int = 40, examples: int = 48) -> tuple[float, list[Keys]]:
    """Train on one set, look at another: (accuracy on it, rows)."""
    torch.manual_seed(seed)
    model = Encoder()
    learn(model, *first_token_repeated(points, seed), epochs)
    x, y = first_token_repeated(1000, seed + 1000)
    model.eval()
    with torch.no_grad():
        accuracy = float((model(x).argmax(1) == y).float().mean())
    return accuracy, branches(model, x[:examples], y[:examples])


# -- tables ------------------------------------------------------------------------------------------------------------


def print_entropies(rows: Sequence[Entropies]) -> None:
    """The table of the README."""
    print("| hidden size | published | ours, log-softmax spelt out | ours, log-softmax as one operator | accuracy |")
    print("|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r.hidden} | {PUBLISHED.get(r.hidden, math.nan):.2f} | {r.spelt_out:.2f} | {r.fused:.2f} | {r.accuracy:.0%} |"
        )


def print_keys(accuracy: float, rows: Sequence[Keys], seed: int) -> None:
    """One seed's table."""
    print(f"\nSeed {seed}, accuracy on held-out sequences {accuracy:.1%}\n")
    print(f"| tokens | {' | '.join(f'{b} wins' for b in BRANCHES)} | {' | '.join(f'{b} product' for b in BRANCHES)} |")
    print("|---" * (1 + 2 * len(BRANCHES)) + "|")
    for r in rows:
        won = " | ".join(f"{r.won[b]:.0%}" for b in BRANCHES)
        print(f"| {r.role} | {won} | {' | '.join(f'{r.product[b]:.1e}' for b in BRANCHES)} |")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["both", "entropy", "keys"], default="both")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40, help="of the transformer")
    asked = parser.parse_args()
    if asked.what != "keys":
        print_entropies(entropy_table(HIDDEN, asked.seeds))
    if asked.what != "entropy":
        for seed in range(asked.seeds):
            print_keys(*keys_experiment(seed, epochs=asked.epochs), seed)


if __name__ == "__main__":
    main()
