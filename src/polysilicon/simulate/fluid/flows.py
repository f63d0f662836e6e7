"""What steps ask of pools over time: sums over windows, by route, in memory that does not grow.

Windows begin a millisecond wide and double their width as often as time needs. Each has parts that
are counted apart, which tells how steps bunch: the variance of counts over their mean, 1 where
arrivals are independent (the index of dispersion).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polysilicon.schedule.types import Codes, Floats

WINDOWS = 512
PARTS = 8
"""Of a window, in which steps are counted apart."""

SUMS = (
    "count", "threads", "squares", "work", "startup", "later", "contexts", "held", "slack", "dated",
)  # fmt: skip
"""What is summed: steps, their threads, the squares of these, work, start-up times threads; tokens
after the first, these times the context at which they come, tokens of memory; seconds until
deadlines, and steps that have one."""

_FIRST_S = 1e-3
_MOST_BURSTS = 1000.0


class Flows:
    """Sums of steps by route and window.

    Args:
        routes: how many.
        pools: how many; prompts take other seconds on each.

    Attributes:
        begun_s: where the first window begins; NaN before anything is added.
        width_s: of a window.
        sums: shape (routes, sums, windows), in the order of `SUMS`.
        prompt_s: seconds of prompts on each pool, shape (routes, pools, windows).
        squares: of single steps' seconds of prompts, of work and of later tokens, over all time;
            shape (routes, pools + 2).
    """

    def __init__(self, routes: int, pools: int) -> None:
        self.begun_s, self.width_s = np.nan, _FIRST_S
        self.sums = np.zeros((routes, len(SUMS), WINDOWS))
        self.prompt_s = np.zeros((routes, pools, WINDOWS))
        self.squares = np.zeros((routes, pools + 2))
        self._parts = np.zeros((routes, 1, WINDOWS * PARTS))

    def reach(self, begun_s: float, until_s: float) -> None:
        """Let windows reach from the first moment to another."""
        if np.isnan(self.begun_s):
            self.begun_s = begun_s
        while self.begun_s + WINDOWS * self.width_s <= until_s:
            self.width_s *= 2.0
            for table in (self.sums, self.prompt_s, self._parts):
                half = table.shape[2] // 2
                table[:, :, :half] = table[:, :, ::2] + table[:, :, 1::2]
                table[:, :, half:] = 0.0

    def add(self, at_s: Floats, route: Codes, values: Mapping[str, Floats],
            prompt_s: Floats) -> None:  # fmt: skip
        """Add steps.

        Args:
            at_s: when each is at its pool, not before the first moment.
            route: code of each.
            values: by the names of `SUMS`, shape (steps,).
            prompt_s: on each pool, shape (pools, steps).
        """
        self.reach(float(at_s.min()), float(at_s.max()))
        place = (at_s - self.begun_s) / self.width_s
        window = np.clip(place.astype(np.int64), 0, WINDOWS - 1)
        part = np.clip((place * PARTS).astype(np.int64), 0, WINDOWS * PARTS - 1)
        told = [values[name] for name in SUMS]
        for table, rows in ((self.sums, told), (self.prompt_s, list(prompt_s))):
            flat = route * WINDOWS + window
            for at, row in enumerate(rows):
                if row.any():
                    more = np.bincount(flat, row, len(table) * WINDOWS)
                    table[:, at] += more.reshape(len(table), WINDOWS)
        counts = np.bincount(route * (WINDOWS * PARTS) + part, minlength=self._parts.size)
        self._parts += counts.reshape(self._parts.shape)
        routes = len(self.squares)
        threads = np.maximum(values["threads"], 1.0)
        worked = (values["work"] + values["startup"]) / threads
        for at, row in enumerate((*prompt_s, worked, values["later"])):
            self.squares[:, at] += np.bincount(route, row**2, routes)

    def of(self, name: str) -> Floats:
        """Return one of the sums, shape (routes, windows)."""
        return self.sums[:, SUMS.index(name)]

    def bursts(self) -> Floats:
        """Return the dispersion of arrivals of each route within windows, shape (routes,)."""
        parts = self._parts.reshape(len(self._parts), WINDOWS, PARTS)
        mean = parts.mean(axis=2, keepdims=True)
        spread = ((parts - mean) ** 2).sum(axis=(1, 2)) / (PARTS - 1)
        total = mean.sum(axis=(1, 2))
        return np.clip(spread / np.maximum(total, 1e-9), 0.0, _MOST_BURSTS)
