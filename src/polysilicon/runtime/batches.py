"""How many steps an engine answers at once while that pays, by the times of its answers."""

from __future__ import annotations

from collections import OrderedDict, deque

import numpy as np

from polysilicon import schedule

GAIN = 0.1
"""Doubling the batch must raise tokens a second by so much."""

_SIZES, _OF_EACH, _EVERY = 32, 8, 16
_TELLING_TOKENS = 8
"""The mean iteration of a shorter answer is mostly that of others' prompts."""


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
