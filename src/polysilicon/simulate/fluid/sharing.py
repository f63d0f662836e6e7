"""Which share of a route's steps goes to which pool, where several take them.

Steps of a window are given out in a few parts. Each goes to the pool that `schedule.choose` names
for the mean step of the route, with queues as the parts before left them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from polysilicon import schedule
from polysilicon.schedule.types import Floats
from polysilicon.simulate.fluid.backlog import Backlog
from polysilicon.simulate.fluid.flows import SUMS, WINDOWS, Flows
from polysilicon.simulate.fluid.park import Park

_PARTS = 8


class Sharing:
    """Gives steps out, window after window.

    Args:
        park: the fleet.
        flows: what steps ask of it.
        queues: of cores (0) and engines (1) of pools, as they are before a window.

    Attributes:
        share: of a route's steps by pool, shape (routes, pools, windows).
        mean_s: service of steps of late, shape (2, pools).
    """

    def __init__(self, park: Park, flows: Flows, queues: Mapping[tuple[int, int], Backlog]) -> None:
        self._park, self._flows, self._queues = park, flows, queues
        able = park.routes["able"]
        self.share = np.zeros((*able.shape, WINDOWS))
        self.mean_s = np.zeros((2, able.shape[1]))
        alone = able.sum(axis=1) == 1
        self._several = np.flatnonzero(~alone)
        self.share[alone] = able[alone][:, :, None]
        self._spent_usd = np.zeros(len(park.most_share))
        self._shares = bool((park.most_share < 1.0).any())

    def give(self, window: int) -> None:
        """Give out the steps of a window."""
        count = self._flows.of("count")[:, window]
        if not self._shares and not (count[self._several] > 0).any():
            return
        there = np.zeros(self.mean_s.shape)
        for (gate, pool), queue in self._queues.items():
            there[gate, pool] = queue.mean
        threads = self._flows.of("threads")[:, window] / _PARTS
        single = np.flatnonzero((count > 0) & ~np.isin(np.arange(len(count)), self._several))
        for _ in range(_PARTS):
            for route in single.tolist():
                pool = int(self.share[route, :, window].argmax())
                self._put(route, pool, there, threads[route], (window, count[route]))
            for route in self._several[count[self._several] > 0].tolist():
                pool = self._choose(route, window, there)
                self.share[route, pool, window] += 1.0 / _PARTS
                self._put(route, pool, there, threads[route], (window, count[route]))
            self._leave(there)

    def _put(self, route: int, pool: int, there: Floats, threads: float,
             of: tuple[int, float]) -> None:  # fmt: skip
        """Count a part of a route's steps at a pool."""
        gate = int(self._park.engine[route])
        window, count = of
        there[gate, pool] += threads
        if self._shares:
            price, work_s = self._work(route, pool, window, there, told=False)
            self._spent_usd[self._park.vendor[pool]] += price * work_s * count / _PARTS

    def _leave(self, there: Floats) -> None:
        """Let steps end for a part of the window."""
        seconds = self._flows.width_s / _PARTS
        for (gate, pool), queue in self._queues.items():
            mean_s = max(self.mean_s[gate, pool] or schedule.UNKNOWN_S, 1e-9)
            if there[gate, pool] > queue.servers:
                there[gate, pool] = max(there[gate, pool] - queue.servers / mean_s * seconds, 0.0)
            else:
                there[gate, pool] /= 1.0 + seconds / mean_s

    def _choose(self, route: int, window: int, there: Floats) -> int:
        """Return the pool that takes the mean step of a route."""
        park = self._park
        able = park.routes["able"][route].copy()
        if self._shares:
            free = np.ones(len(able), np.bool_)
            fit = schedule.allowed(able, free, park.vendor, self._spent_usd, park.most_share)
            if fit.any():
                able = fit
        gate = int(park.engine[route])
        known = np.zeros((3, len(able)))
        for pool in np.flatnonzero(able).tolist():
            queue = self._queues[gate, pool]
            queue_s = schedule.queued_s(self.mean_s[gate, pool], there[gate, pool], queue.servers)
            price, work_s = self._work(route, pool, window, there, told=True)
            known[:, pool] = price, work_s, queue_s + float(park.routes["delay_s"][route, pool])
        sums = dict(zip(SUMS, self._flows.sums[route, :, window], strict=True))
        slack_s, late = np.inf, park.late_usd_per_s[0]
        if sums["dated"] > 0:
            slack_s, late = float(sums["slack"] / sums["dated"]), park.late_usd_per_s[1]
        if park.latency:
            known[0], slack_s, late = 0.0, 0.0, 1.0
        nothing = np.zeros(len(able))
        return int(schedule.choose(known[0], known[1], nothing, known[2], able, slack_s, late))

    def _work(
        self, route: int, pool: int, window: int, there: Floats, *, told: bool
    ) -> tuple[float, float]:
        """Return dollars for a second of a route's mean step on a pool, and how long it takes.

        Args:
            route: which.
            pool: where.
            window: when.
            there: steps that run or wait.
            told: the scheduler's price, and not what machines cost.
        """
        park, flows = self._park, self._flows
        gate = int(park.engine[route])
        sums = dict(zip(SUMS, flows.sums[route, :, window] / flows.of("count")[route, window],
                        strict=True))  # fmt: skip
        price = float(park.price[gate, pool])
        if not told or np.isnan(price):
            price = float(park.usd[gate, pool])
            share = sums["threads"] if gate == 0 else 1.0 / self._running(pool, there)
            price *= float(share)
        if gate == 0:
            amount = float(park.routes["amount"][route, pool])
            seconds = (sums["work"] * amount + sums["startup"]) / max(sums["threads"], 1.0)
            return price, float(seconds)
        running = self._running(pool, there)
        decode = park.decode[pool][int(running)]
        prompt_s = flows.prompt_s[route, pool, window] / flows.of("count")[route, window]
        token_s = sums["later"] * decode["base_s"]
        token_s += decode["context_s"] * running * sums["contexts"]
        return price, float(prompt_s + token_s)

    def _running(self, pool: int, there: Floats) -> float:
        """Return sequences of an engine of a pool once one more is there."""
        engines = max(float(self._park.engines[pool]), 1e-9)
        return float(min(there[1, pool] // engines + 1.0, self._park.laws["slots"][pool]))
