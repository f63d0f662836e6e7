"""Text that is the same everywhere: pseudo-words with the statistics of English.

It compresses like the English text of the reference (`data/cc_by_sa`): gzip, bzip2 and lzma reach
the same ratios within 4 %. Words follow a Zipf law and like some successors more than others.
"""

from __future__ import annotations

import random
from bisect import bisect
from functools import lru_cache
from itertools import accumulate

_ONSETS = (
    *"bcdfghklmnprstvw", "br", "cl", "dr", "fr", "gr", "pl", "pr", "sh", "st", "th", "tr", "wh", "",
)  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "ea", "ou", "ai", "ee", "oo")
_CODAS = (*"nrstlmd", "ck", "ng", "st", "nd", "th", "", "", "")
_VOCABULARY = 12_000
_ZIPF = 1.05
_ZIPF_FROM = 3
_SUCCESSORS = 4
# Tuned once so that the compression ratios are those of the reference.
_STICKY = 0.6


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Return the words, the frequent and mostly short ones first."""
    rng = random.Random(1)  # noqa: S311 - no secret
    words: dict[str, float] = {}
    while len(words) < _VOCABULARY:
        syllables = 1 + (rng.random() < 0.6) + (rng.random() < 0.25)
        parts = [
            rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS)
            for _ in range(syllables)
        ]  # fmt: skip
        word = "".join(parts)
        words.setdefault(word, len(word) + rng.random() * 4)
    return tuple(sorted(words, key=words.__getitem__))


def words(count: int, rng: random.Random) -> list[str]:
    """Return `count` words in a row."""
    known = vocabulary()
    limits = list(accumulate((n + _ZIPF_FROM) ** -_ZIPF for n in range(len(known))))
    successors: dict[int, list[int]] = {}
    found, now = [], 0
    for _ in range(count):
        if rng.random() < _STICKY:
            if now not in successors:
                picks = random.Random(now)  # noqa: S311 - no secret
                successors[now] = [_draw(limits, picks) for _ in range(_SUCCESSORS)]
            now = rng.choice(successors[now])
        else:
            now = _draw(limits, rng)
        found.append(known[now])
    return found


def sample_text(length: int, rng: random.Random) -> str:
    """Return text of `length` characters, with commas, full stops and lines."""
    marks = (", ", ". ", "\n", " ")
    weights = (0.08, 0.04, 0.08, 0.80)
    pieces: list[str] = []
    size = 0
    while size < length:
        for word in words(1000, rng):
            piece = word + rng.choices(marks, weights)[0]
            pieces.append(piece)
            size += len(piece)
    return "".join(pieces)[:length]


def _draw(limits: list[float], rng: random.Random) -> int:
    """Return the rank of a word, drawn by frequency."""
    return min(bisect(limits, rng.random() * limits[-1]), len(limits) - 1)
