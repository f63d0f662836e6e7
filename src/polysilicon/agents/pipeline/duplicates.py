"""Near-duplicates: MinHash signatures, candidates by bands, the first of each group kept.

MinHash: Broder 1997, "On the resemblance and containment of documents", section 4. Bands: Leskovec,
Rajaraman, Ullman 2020, "Mining of Massive Datasets", section 3.4: with 32 bands of 4 rows, texts of
resemblance 0.7 meet in some band with probability 0.9998.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from rensa import RMinHash

THRESHOLD = 0.7
"""Share of common shingles (Jaccard) from which on two texts are near-duplicates."""

PERMUTATIONS = 128
_BANDS = 32
_SHINGLE_WORDS = 3
_SEED = 1997
_WORD = re.compile(r"\w+")

Signatures = np.ndarray[Any, np.dtype[np.uint32]]


def shingles(text: str) -> list[str]:
    """Return the runs of three words in `text`, in lower case; the whole of a shorter text."""
    words = _WORD.findall(text.casefold())
    last = len(words) - _SHINGLE_WORDS
    if last < 0:
        return [" ".join(words)]
    return [" ".join(words[n : n + _SHINGLE_WORDS]) for n in range(last + 1)]


def signatures(texts: list[str]) -> Signatures:
    """Return the MinHash signature of each text: n rows of 128 numbers, 512 bytes a text."""
    if not texts:
        return joined([])
    sets = [shingles(text) for text in texts]
    matrix = RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32)


def joined(tables: Sequence[Signatures]) -> Signatures:
    """Return tables of signatures as one."""
    empty: Signatures = np.empty((0, PERMUTATIONS), dtype=np.uint32)
    return np.concatenate([empty, *tables])


def originals(table: Signatures) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return, for each row, the first row that it is a near-duplicate of; itself where of none.

    Rows are candidates where a band of 4 numbers is equal, and near-duplicates where at least 70 %
    of the 128 numbers are (an estimate of the Jaccard index, standard error below 0.041). A row is
    compared with the first of its bucket only, so time is linear in the rows.

    Args:
        table: n rows of 128 numbers.
    """
    rows = np.arange(len(table), dtype=np.int64)
    first = rows.copy()
    width = PERMUTATIONS // _BANDS
    for band in range(_BANDS):
        keys = np.ascontiguousarray(table[:, band * width : (band + 1) * width])
        buckets = keys.view(np.dtype((np.void, keys.itemsize * width))).ravel()
        _, head, bucket = np.unique(buckets, return_index=True, return_inverse=True)
        candidates = head[bucket]
        later = np.flatnonzero(candidates < first)
        alike = np.array(
            [np.mean(table[row] == table[candidates[row]]) >= THRESHOLD for row in later],
            dtype=bool,
        )
        chosen = later[alike]
        first[chosen] = candidates[chosen]
    # An original may itself be the near-duplicate of an earlier one: follow to the first.
    while True:
        further = first[first]
        if np.array_equal(further, first):
            return first
        first = further
