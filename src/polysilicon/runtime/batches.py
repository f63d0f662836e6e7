"""How many steps an engine answers at once while that pays, by the times of its answers."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from polysilicon import schedule

GAIN = 0.1
"""Doubling the batch must raise tokens a second by so much."""

_SIZES, _OF_EACH, _EVERY = 32, 8, 16
_READS = 64
_LEAST_SHARE = 0.2
"""Of an answer's seconds after its first token, if that is all that was no reading of prompts, the
rest says little."""
_TELLING_TOKENS = 8
"""The mean iteration of a shorter answer is mostly that of others' prompts."""


class Answered(Protocol):
    """What is known of an answer under way."""

    first_token_s: float | None


class Reads:
    """When an engine read prompts: while it does, the answers of others stand still.

    That they do is no reason for fewer at once, for the same prompts are read in any case.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, tuple[float, Answered]] = {}
        self._ended: deque[tuple[float, float]] = deque(maxlen=_READS)
        self._number = 0

    @contextmanager
    def of(self, answer: Answered, begin_s: float) -> Iterator[None]:
        """Note one that is sent now, until it has ended."""
        self._number = number = self._number + 1
        self._under_way[number] = begin_s, answer
        try:
            yield
        finally:
            del self._under_way[number]
            if answer.first_token_s is not None:
                self._ended.append((begin_s, answer.first_token_s))

    def decoding(self, tokens: int, begin_s: float, end_s: float) -> tuple[int, float]:
        """Return which tokens of an answer, in how many seconds, were beside no prompt.

        Args:
            tokens: of the answer.
            begin_s: when its first came.
            end_s: when its last came.
        """
        spans = [*self._ended]
        # Those that come whole tell no first token: no prompt takes longer to read than others did.
        longest_s = max((first_s - sent_s for sent_s, first_s in spans), default=0.0)
        for sent_s, answer in self._under_way.values():
            first_s = answer.first_token_s
            spans.append((sent_s, sent_s + longest_s if first_s is None else first_s))
        reading_s, until_s, prompts = 0.0, begin_s, 0
        for sent_s, first_s in sorted(spans):
            low_s, high_s = max(sent_s, until_s), min(first_s, end_s)
            if high_s > low_s:
                reading_s, until_s, prompts = reading_s + high_s - low_s, high_s, prompts + 1
        seconds = end_s - begin_s - reading_s
        if seconds < _LEAST_SHARE * (end_s - begin_s):
            return 0, 0.0
        return tokens - prompts, seconds  # an iteration that reads a prompt makes a token, too


class Batch:
    """The batch of an engine with `slots` slots: `most` is how many may run at once."""

    def __init__(self, slots: int) -> None:
        self._slots = self.most = slots
        self._seen: OrderedDict[int, deque[float]] = OrderedDict()
        self._new = 0

    def noted(self, tokens: int, seconds: float, batch: float) -> None:
        """Note an answer.

        Args:
            tokens: of the answer.
            seconds: from its first token to its last.
            batch: steps that ran at once, on the mean of its beginning and its end.
        """
        if tokens < _TELLING_TOKENS or seconds <= 0.0:
            return
        # What other sizes took is not forgotten while the batch stays at one, so that a law is
        # always fitted across sizes, and a few disturbed answers do not pin the batch at 1.
        of_size = self._seen.setdefault(round(batch), deque(maxlen=_OF_EACH))
        of_size.append(seconds / (tokens - 1))
        self._seen.move_to_end(round(batch))
        if len(self._seen) > _SIZES:
            self._seen.popitem(last=False)
        self._new += 1
        if self._new >= _EVERY:
            self._new = 0
            telling = [(size, took_s) for size, times in self._seen.items() for took_s in times]
            sequences, iteration_s = np.array(telling, np.float64).T
            law = schedule.batch_law(np.ascontiguousarray(sequences), iteration_s.copy())
            self.most = schedule.batch_cap(*law, GAIN, self._slots)
