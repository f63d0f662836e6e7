"""How fast a machine is now, against when it was measured, by the steps that ran before.

Cores of a cloud share their chip with those of others: prompts of one model took 1.6 times as long
at one time as ten minutes before, on two cores of Zen 4 that did nothing else. No profile tells
that beforehand, and steps that have just run do.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort

import numpy as np

_SEEN = 8
"""Of how many of the last observations the median is taken; two of each step."""

_DOUBT = 2.0
"""Observations that say that the machine is as it was measured."""


class Pace:
    """How many times as long as by the rates steps take, over the time of a run."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []

    def saw(self, moment_s: float, measured_s: float, by_rates_s: float) -> None:
        """Note how long something took that was over at a moment.

        Args:
            moment_s: when it was over.
            measured_s: that it took.
            by_rates_s: that it would have taken as the machine was measured.
        """
        if measured_s > 0.0 and by_rates_s > 0.0:
            insort(self._seen, (moment_s, math.log(measured_s / by_rates_s)))

    def at(self, moment_s: float) -> float:
        """Return how many times as long, by what was over at a moment."""
        known = bisect_right(self._seen, (moment_s, math.inf))
        last = [much for _, much in self._seen[max(known - _SEEN, 0) : known]]
        if not last:
            return 1.0
        return math.exp(float(np.median(last)) * len(last) / (len(last) + _DOUBT))
