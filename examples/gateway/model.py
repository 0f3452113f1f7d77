"""A small text model: word n-grams counted over one book. Pure: a seed in, the same words out.

>>> model = NGram("the cat sat on the mat. the cat ran.", order=2)
>>> generation = model.generate("Look at the", seed=7, max_tokens=4)
>>> len("".join(generation).split()) <= 4, generation.finish_reason in ("stop", "length")
(True, True)
>>> count_tokens("Oh dear! Oh dear!")
6
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Literal

__all__ = ["Generation", "NGram", "count_tokens", "embed", "load", "tokenize"]

FinishReason = Literal["stop", "length"]

TOKEN = re.compile(r"[^\W_]{1,24}(?:['’-][^\W_]{1,24})*|[^\w\s]|_")
SPOKEN = re.compile(r"[^\W_]{1,24}(?:['’-][^\W_]{1,24})*|[.,;:!?]")  # to learn: quotes and brackets never pair
END = ""  # the end of a paragraph, drawn like a word


def tokenize(text: str) -> list[str]:
    """Split into words and marks: what a context window holds and what a bill counts."""
    return TOKEN.findall(text)


def count_tokens(text: str) -> int:
    return sum(1 for _ in TOKEN.finditer(text))


def embed(words: list[str], dimensions: int) -> list[float]:
    """A vector of length one: every word and every pair of words adds or takes one at the place its hash names."""
    vector = [0.0] * dimensions
    lowered = [word.lower() for word in words]
    for gram in [*lowered, *(" ".join(pair) for pair in pairwise(lowered))]:
        digest = int.from_bytes(blake2b(gram.encode(), digest_size=8).digest())
        vector[(digest >> 1) % dimensions] += 1 if digest & 1 else -1
    length = math.hypot(*vector) or 1.0
    return [value / length for value in vector]


class NGram:
    """Counts which word followed each run of up to `order - 1` words, and draws from those counts."""

    def __init__(self, text: str, *, order: int) -> None:
        self.order = order
        self.followers: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for paragraph in text.split("\n\n"):
            if words := SPOKEN.findall(paragraph):
                self._learn(words)

    def _learn(self, words: Sequence[str]) -> None:
        lowered = [word.lower() for word in words]
        for position, word in enumerate([*words, END]):
            for length in range(min(self.order, position + 1)):
                self.followers[tuple(lowered[position - length : position])][word] += 1

    def generate(
        self,
        prompt: str,
        *,
        seed: int,
        max_tokens: int,
        min_tokens: int = 1,
        temperature: float = 1.0,
        stop: Iterable[str] = (),
    ) -> Generation:
        """Continue `prompt`. `min_tokens` puts off the end of the paragraph, as in vLLM's parameter of that name."""
        words = self._draw(prompt, random.Random(seed), temperature, max(min_tokens, 1))
        return Generation(words, max_tokens, tuple(stop))

    def _draw(self, prompt: str, rng: random.Random, temperature: float, min_tokens: int) -> Iterator[str]:
        context = [word.lower() for word in SPOKEN.findall(prompt)][-(self.order - 1) :]
        drawn = 0
        while True:
            weights = self._weights(context, may_end=drawn >= min_tokens)
            if temperature == 0:
                word = max(weights, key=lambda candidate: (weights[candidate], candidate))
            else:
                most = max(weights.values())  # as shares of it, small temperatures cannot overflow
                shares = [(count / most) ** (1 / temperature) for count in weights.values()]
                (word,) = rng.choices(list(weights), shares)
            if word == END:
                return
            yield word
            drawn += 1
            context = [*context, word.lower()][-(self.order - 1) :]

    def _weights(self, context: Sequence[str], *, may_end: bool) -> dict[str, int]:
        """What followed the longest known end of `context`; at last, how often each word occurs at all."""
        for start in range(len(context) + 1):
            seen: Mapping[str, int] = self.followers.get(tuple(context[start:]), {})
            if known := {word: count for word, count in seen.items() if may_end or word != END}:
                return known
        raise ValueError("the model was given no text to learn from")


class Generation:
    """Iterate it once for the pieces of text; afterwards `tokens` and `finish_reason` say how it ended."""

    def __init__(self, words: Iterator[str], max_tokens: int, stop: tuple[str, ...]) -> None:
        self.words, self.max_tokens, self.stop = words, max_tokens, stop
        self.tokens = 0
        self.finish_reason: FinishReason = "stop"

    def __iter__(self) -> Iterator[str]:
        held = ""  # text that may be the first half of a stop sequence
        for piece in self._pieces():
            held += piece
            if cuts := [at for mark in self.stop if (at := held.find(mark)) >= 0]:
                held, self.finish_reason = held[: min(cuts)], "stop"
                break
            safe = len(held) - self._half_stop(held)
            if safe:
                yield held[:safe]
            held = held[safe:]
        if held:
            yield held

    def _pieces(self) -> Iterator[str]:
        for word in self.words:
            if self.tokens == self.max_tokens:
                self.finish_reason = "length"
                return
            self.tokens += 1
            yield word if self.tokens == 1 or not word[0].isalnum() else f" {word}"

    def _half_stop(self, text: str) -> int:
        sizes = (size for mark in self.stop for size in range(1, len(mark)) if text.endswith(mark[:size]))
        return max(sizes, default=0)


@cache
def load(order: int) -> NGram:
    """The model over the bundled book; see README.md for what the book is."""
    return NGram(Path(__file__).with_name("corpus.txt").read_text("utf-8"), order=order)
