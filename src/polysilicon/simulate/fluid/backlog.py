"""How many are at a queue of many servers, as probabilities over time, whatever its size.

The number x that run or wait goes up and down by single steps: it drifts by (inflow - outflow(x))
and spreads by (inflow's dispersion + outflow(x)). This is kept as a Markov chain on a grid of a few
hundred points whose drift is exact and whose spread is exact wherever points are near enough for
that (H. Kushner, P. Dupuis, "Numerical Methods for Stochastic Control Problems", 2001, chapter 5).
Points lie one apart, or a twelfth of the square root of the servers where these are many, around
the number of servers: there a queue begins, and for many servers all happens within a few square
roots of it (S. Halfin, W. Whitt, Operations Research 29(3), 1981). With points one apart and
constant inflow it comes to rest where Erlang's C does.

Where the queue is far from empty it is a normal distribution that moves and widens: a fluid with
its square root of spread.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special
from scipy.linalg import lapack

from polysilicon.schedule.types import Floats

LEVELS = np.concatenate((np.linspace(0.0, 0.9, 91), 1.0 - np.geomspace(0.1, 1e-6, 61)[1:]))
"""Shares of arrivals at which waits are told."""

_PARTS = 4
"""Steps of a window; each is implicit, so that it is stable however long."""

_NEAR = 12.0
# Points are this part of a square root, or of the distance from the servers, apart.
_FINE, _COARSE = 1.0 / 12.0, 0.03
# A queue is far from empty at so many standard deviations; it comes back at fewer.
_FAR, _BACK = 6.0, 4.0
_NOTHING = 1e-9


class Backlog:
    """How many run or wait at a queue, at the end of the last window.

    Args:
        servers: how many; any number from 1.
        most: that can ever be there.

    Attributes:
        at: points of the grid, shape (points,).
        share: probability of each.
        far: mean and variance where no server is idle and the queue is long; else None.
    """

    def __init__(self, servers: float, most: float) -> None:
        self.servers = servers
        self.at = _grid(servers, most)
        self.share = np.zeros(len(self.at))
        self.share[0] = 1.0
        self.far: tuple[float, float] | None = None
        self._spread = servers

    @property
    def mean(self) -> float:
        """How many are there on average."""
        return self.far[0] if self.far is not None else float(self.at @ self.share)

    def advance(self, inflow: float, outflow: Floats, variance: Floats, seconds: float) -> None:
        """Let time pass.

        Args:
            inflow: that arrive in a second.
            outflow: that leave in a second, at each point of the grid, shape (points,).
            variance: of how many come and leave, over a second; likewise.
            seconds: how long.
        """
        part_s = seconds / _PARTS
        drift = inflow - outflow
        solve = self._implicit(drift, variance, inflow, part_s) if self.far is None else None
        for _ in range(_PARTS):
            if self.far is not None:
                self._far_off(float(drift[-1]), float(variance[-1]), part_s)
                continue
            if solve is None:
                solve = self._implicit(drift, variance, inflow, part_s)
            self.share = np.maximum(lapack.dgttrs(*solve, self.share)[0], 0.0)
            self.share /= self.share.sum()
            full = drift[-1] > 0.0
            self._spread = self._spread + float(variance[-1]) * part_s if full else self.servers
            mean = self.mean
            deviation = math.sqrt(max(float((self.at - mean) ** 2 @ self.share), 0.0))
            if full and mean - self.servers > _FAR * deviation + 1.0:
                # The grid's points, far apart there, spread it more than what comes and goes did.
                self.far = mean, min(deviation**2, self._spread)

    def _implicit(
        self, drift: Floats, variance: Floats, inflow: float, seconds: float
    ) -> tuple[Any, ...]:
        """Return the factors of the matrix whose inverse takes shares through some seconds."""
        gap = np.diff(self.at)
        up, down = np.zeros(len(self.at)), np.zeros(len(self.at))
        left, right = gap[:-1], gap[1:]
        inner = slice(1, -1)
        # As much spread as keeps both rates from being negative, where points are far apart.
        enough = np.maximum(-drift[inner] * left, drift[inner] * right)
        wide = np.maximum(variance[inner], enough)
        up[inner] = (wide + drift[inner] * left) / (right * (left + right))
        down[inner] = (wide - drift[inner] * right) / (left * (left + right))
        up[0], down[-1] = inflow / gap[0], max(-drift[-1], 0.0) / gap[-1]
        middle = 1.0 + seconds * (up + down)
        return tuple(lapack.dgttrf(-seconds * up[:-1], middle, -seconds * down[1:])[:5])

    def _far_off(self, drift: float, more: float, seconds: float) -> None:
        """Move the normal distribution on, at most until it is near the servers."""
        assert self.far is not None
        mean, variance = self.far
        room = mean - self.servers - _BACK * math.sqrt(variance)
        passed = min(seconds, max(room, 0.0) / -drift) if drift < 0.0 else seconds
        mean += drift * passed
        variance += more * passed
        self.far = mean, variance
        if mean - self.servers <= _BACK * math.sqrt(variance) * (1.0 + 1e-6):
            self._back(mean, math.sqrt(variance))

    def _back(self, mean: float, deviation: float) -> None:
        """Put the normal distribution on the grid."""
        ends = (self.at[1:] + self.at[:-1]) / 2.0
        below = special.ndtr((ends - mean) / max(deviation, _NOTHING))
        self.share = np.diff(np.concatenate(([0.0], below, [1.0])))
        self.far = None

    def ahead(self) -> Floats:
        """Return how many have to leave before an arrival has a server, at each of `LEVELS`."""
        if self.far is not None:
            mean, variance = self.far
            away = special.ndtri(np.clip(LEVELS, 1e-6, 1.0 - 1e-6)) * math.sqrt(variance)
            return np.maximum(mean - self.servers + 1.0 + away, 0.0)
        first = int(np.searchsorted(self.at, self.servers - 1e-9))
        middle = (self.at[first:-1] + self.at[first + 1 :]) / 2.0 - self.servers + 1.0
        ends = np.concatenate(([0.0, 0.5], middle, [self.at[-1] - self.servers + 1.0]))
        total = np.cumsum(self.share)
        idle = float(total[first - 1]) if first else 0.0
        below = np.concatenate(([idle, idle], total[first:]))
        return np.asarray(np.interp(LEVELS, below, ends), np.float64)


def _grid(servers: float, most: float) -> Floats:
    """Return points from 0 to the most that can be, near each other around the servers."""
    root = math.sqrt(servers)
    fine = max(1.0, root * _FINE)

    def away(until: float) -> list[float]:
        found, at = [], 0.0
        while at < until:
            at += max(fine, (at - _NEAR * root) * _COARSE)
            found.append(at)
        return found

    below = [servers - at for at in away(servers) if at < servers - 0.5]
    above = [servers + at for at in away(max(most - servers, 2.0 * fine))]
    return np.array([0.0, *below[::-1], servers, *above])
