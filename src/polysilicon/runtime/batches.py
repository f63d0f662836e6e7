"""How many steps an engine answers at once while that pays, by the times of its answers."""

from __future__ import annotations

from collections import deque

import numpy as np

from polysilicon import schedule

GAIN = 0.1
"""Doubling the batch must raise tokens a second by so much."""

_KEPT, _EVERY = 64, 16
_TELLING_TOKENS = 8
"""The mean iteration of a shorter answer is mostly that of others' prompts."""


class Batch:
    """The batch of an engine with `slots` slots: `most` is how many may run at once."""

    def __init__(self, slots: int) -> None:
        self._slots = self.most = slots
        self._seen: deque[tuple[float, float]] = deque(maxlen=_KEPT)
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
        self._seen.append((round(batch), seconds / (tokens - 1)))
        self._new += 1
        if self._new >= _EVERY:
            self._new = 0
            sequences, iteration_s = np.array(self._seen, np.float64).T
            law = schedule.batch_law(np.ascontiguousarray(sequences), iteration_s.copy())
            self.most = schedule.batch_cap(*law, GAIN, self._slots)
