"""The formal languages by which memories are judged, and their words as examples for a model of the next symbol.

From DuSell & Chiang 2020, "Learning Context-free Languages with Nondeterministic Stack RNNs", and Grefenstette et al. 2015,
"Learning to Transduce with Unbounded Memory". A symbol is asked for only where what came before decides it (for
unmarked reversal: where it would, if the middle were marked), so that a model which has learnt the language has loss 0.

    marked reversal     a b c # c b a .
    unmarked reversal   a b c c b a .
    padded reversal     a b c _ _ c b a .     one or more _
    Dyck                ( [ ] ) ( ) .         brackets of n kinds; asked: which one closes
    queue copying       a b c # a b c .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from torch import Tensor

from gradtrace.service.workloads.architecture_parameters import Language, MemoryParameters
from gradtrace.service.workloads.generated import distinct, padded
from gradtrace.service.workloads.instance import IGNORE


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Numbers of the symbols: words are of 0 to `symbols` − 1 (Dyck: closing brackets follow), then three special ones."""

    symbols: int

    @property
    def mark(self) -> int:
        """The middle of a marked word; the padding of padded reversal."""
        return 2 * self.symbols

    @property
    def end(self) -> int:
        """The end of a word, and what follows it in a batch of words of unequal lengths."""
        return self.mark + 1

    @property
    def size(self) -> int:
        """Classes in all."""
        return self.end + 1


Word = tuple[tuple[int, ...], tuple[bool, ...]]
"""Symbols with the end, and for each whether a model is asked for it."""


def draw_word(language: Language, random: Random, vocabulary: Vocabulary, length: int) -> Word:
    """One word of a language.

    Args:
        language: which.
        random: where the symbols come from.
        vocabulary: its symbols.
        length: symbols before the middle (Dyck: pairs of brackets).
    """
    if language == "dyck":
        return _dyck(random, vocabulary, length)
    half = [random.randrange(vocabulary.symbols) for _ in range(length)]
    answer = half if language == "queue-copying" else half[::-1]
    padding = max(random.randrange(length + 1), 1)
    pause = {"unmarked-reversal": 0, "padded-reversal": padding}.get(language, 1)
    symbols = (*half, *[vocabulary.mark] * pause, *answer, vocabulary.end)
    return symbols, (*[False] * (length + pause), *[True] * (length + 1))


def _dyck(random: Random, vocabulary: Vocabulary, pairs: int) -> Word:
    symbols: list[int] = []
    asked: list[bool] = []
    opened: list[int] = []
    left = pairs
    while left or opened:
        if left and (not opened or random.random() < 0.5):
            opened.append(random.randrange(vocabulary.symbols))
            symbols.append(opened[-1])
            asked.append(False)
            left -= 1
        else:
            symbols.append(vocabulary.symbols + opened.pop())
            asked.append(True)
    return (*symbols, vocabulary.end), (*asked, False)


LONGEST: dict[str, Callable[[int], int]] = {
    "marked-reversal": lambda n: 2 * n + 2,
    "unmarked-reversal": lambda n: 2 * n + 1,
    "padded-reversal": lambda n: 3 * n + 1,
    "dyck": lambda n: 2 * n + 1,
    "queue-copying": lambda n: 2 * n + 2,
}
"""Symbols of the longest word, the end included, by the greatest length."""


def examples(language: Language, parameters: MemoryParameters) -> tuple[Tensor, Tensor]:
    """Words as inputs and targets [examples, time]: every symbol but the last, and the next one where it is asked for."""
    random = Random(parameters.seed)
    vocabulary = Vocabulary(parameters.symbols)

    def one() -> Word:
        length = random.randint(parameters.min_length, parameters.max_length)
        return draw_word(language, random, vocabulary, length)

    words = distinct(one, parameters.examples + parameters.held_out, "max_length or symbols")
    time = LONGEST[language](parameters.max_length) - 1
    inputs = [symbols[:-1] for symbols, _ in words]
    targets = [
        tuple(s if a else IGNORE for s, a in zip(symbols[1:], asked[1:], strict=True)) for symbols, asked in words
    ]
    return padded(inputs, time, vocabulary.end), padded(targets, time, IGNORE)
