"""Queues over time from what steps ask of pools, window after window.

In each window steps of routes that several pools take are given out in parts, each to the pool that
the scheduler would choose with the queues as they are then; the queues move on by what came.
"""

from __future__ import annotations

import math

import numpy as np

from polysilicon.schedule.types import Floats
from polysilicon.simulate.fluid.backlog import LEVELS, Backlog
from polysilicon.simulate.fluid.demand import Asked, Demand
from polysilicon.simulate.fluid.flows import WINDOWS, Flows
from polysilicon.simulate.fluid.levels import FIGURES, Levels
from polysilicon.simulate.fluid.park import Park
from polysilicon.simulate.fluid.service import Sequences, at_threads, engine_times
from polysilicon.simulate.fluid.sharing import Sharing

_MOST_THREADS = 64.0
_BATCHES = 12
_ENOUGH = 500.0
"""Steps over which what they ask is averaged: means of few have a bias in what they divide."""


class Settled:
    """Queues of a fleet, as they move on.

    Args:
        park: the fleet.
        flows: what steps ask of it.
        most: steps that there are.
    """

    def __init__(self, park: Park, flows: Flows, most: int) -> None:
        self._park, self._flows = park, flows
        self._demand = Demand(park, flows)
        pools = len(park.pools)
        self._slots = self._demand.slots()
        servers = np.stack([park.threads, park.engines * self._slots])
        self._queues = {
            (gate, pool): Backlog(
                max(float(servers[gate, pool]), 1.0), servers[gate, pool] + most * _MOST_THREADS
            )
            for gate in range(2)
            for pool in np.flatnonzero(servers[gate] > 0).tolist()
        }
        self.sharing = Sharing(park, flows, self._queues)
        self._wait_s = np.zeros((2, pools, WINDOWS + 1, len(LEVELS)))
        self._figures = np.zeros((len(FIGURES), pools, WINDOWS))
        self._figures[[FIGURES.index(n) for n in ("slow", "running", "beside")]] = 1.0
        self._last: dict[tuple[int, int], Asked] = {}
        self._stay_s, self._known = np.zeros((2, pools)), np.zeros((2, pools))
        self._threads, self._active = np.zeros(pools), np.zeros(pools)

    def levels(self) -> Levels:
        """Return queues over all windows."""
        for window in range(WINDOWS):
            self.sharing.give(window)
            for gate, pool in self._queues:
                self._pass(gate, pool, window)
        return Levels(
            begun_s=self._flows.begun_s,
            width_s=self._flows.width_s,
            wait_s=self._wait_s,
            figures=self._figures,
            below=np.cumsum(self.sharing.share, axis=1),
        )

    def _pass(self, gate: int, pool: int, window: int) -> None:
        """Let one queue go through a window."""
        asked = self._demand.of(gate, pool, window, self.sharing.share[:, pool, window])
        come = 0.0
        if asked is not None:
            come = asked.count * asked.threads / self._flows.width_s
            self._last[gate, pool] = self._smoothed(gate, pool, asked)
        asked = self._last.get((gate, pool))
        if asked is None:
            return
        queue = self._queues[gate, pool]
        serve = self._on_engines if gate else self._on_cores
        outflow, varied, seconds = serve(pool, window, asked, come)
        variance = self._variance(queue, asked, (come, outflow), (varied, seconds))
        queue.advance(come, outflow, variance, self._flows.width_s)
        self._wait_s[gate, pool, window + 1] = queue.ahead() * asked.size / outflow[-1]
        self.sharing.mean_s[gate, pool] = seconds
        self._figures[FIGURES.index("engine_s" if gate else "core_s"), pool, window] = seconds
        self._stay_s[gate, pool] = seconds + max(queue.mean - queue.servers, 0.0) / outflow[-1]

    def _smoothed(self, gate: int, pool: int, asked: Asked) -> Asked:
        """Return the mean of steps that are there, or of the last `_ENOUGH` if these are more."""
        before, known = self._last.get((gate, pool)), self._known[gate, pool]
        stay = self._stay_s[gate, pool] / self._flows.width_s * asked.count
        self._known[gate, pool] = min(known + asked.count, max(asked.count, stay, _ENOUGH))
        if before is None:
            return asked
        return before.towards(asked, asked.count / (known + asked.count))

    def _variance(
        self, queue: Backlog, asked: Asked, flow: tuple[float, Floats], service: tuple[float, float]
    ) -> Floats:
        """Return the variance of what comes and leaves over a second, at each point of a queue.

        What windows tell of arrivals and of their work is known, and does not vary again. Seen
        through a time of relaxation, that is a share of all variance which goes to 1 where windows
        are short beside it: white noise, averaged over windows, in an Ornstein-Uhlenbeck process.
        That time is a step's own below the servers, and for a queue that of Brownian motion that
        is held at 0 (J. Abate, W. Whitt, Adv. Appl. Probab. 19 (1987), 560).

        Args:
            queue: which.
            asked: of it.
            flow: what comes, and what leaves at each point.
            service: its variance over its squared mean, and the mean.
        """
        (come, outflow), (varied, mean_s) = flow, service
        most = float(outflow[-1])
        away = max(abs(most - come), 1e-9 * most)
        waits_s = max((come + most) * asked.size / (2.0 * away**2), mean_s)
        below = asked.bursts * come * _unseen(self._flows.width_s / mean_s) + outflow
        above = (asked.bursts * come + varied * most) * _unseen(self._flows.width_s / waits_s)
        return np.asarray(asked.size * np.where(queue.at >= queue.servers, above, below))

    def _weights(self, queue: Backlog) -> Floats:
        """Return how steps that run spread over the points of a queue; their sum is 1."""
        found = np.zeros(len(queue.at))
        if queue.far is not None:
            found[-1] = 1.0
            return found
        found = queue.share * np.minimum(queue.at, queue.servers)
        total = float(found.sum())
        if total <= 0.0:
            found[0], total = 1.0, 1.0
        return np.asarray(found / total)

    def _on_cores(
        self, pool: int, window: int, asked: Asked, come: float
    ) -> tuple[Floats, float, float]:
        """Return what leaves a second at each point, how service varies, and its mean."""
        park, queue = self._park, self._queues[0, pool]
        del come
        running = np.minimum(queue.at, queue.servers)
        step = float(park.pools["step"][pool])
        speed = at_threads(park.alone[pool], running, step)
        if park.pools["coupled"][pool]:
            beside = at_threads(park.beside[pool], running, step)
            speed = speed + (beside - speed) * self._active[pool]
        weights = self._weights(queue)
        slow = float(weights @ (1.0 / speed))
        self._figures[FIGURES.index("slow"), pool, window] = slow
        queued = queue.mean
        self._threads[pool] = min(queued, queue.servers)
        each_s = max(asked.work_s / asked.threads, 1e-12)
        return running * speed / each_s, asked.varied, each_s * slow

    def _on_engines(
        self, pool: int, window: int, asked: Asked, come: float
    ) -> tuple[Floats, float, float]:
        """Return the same of engines."""
        park, queue = self._park, self._queues[1, pool]
        engines = float(park.engines[pool])
        slow = 1.0
        if park.pools["coupled"][pool]:
            slow = float(at_threads(park.slower[pool], self._threads[pool],
                                    float(park.pools["step"][pool])))  # fmt: skip
        mean = Sequences(
            prompt_s=max(asked.prompt_s, 1e-9),
            varied=asked.prompt_varied,
            later=asked.later,
            context=asked.contexts / max(asked.later, 1e-9),
        )
        slots = max(queue.servers / engines, 1.0)
        batches = np.unique(np.geomspace(1.0, slots, _BATCHES))
        times = engine_times(park.decode[pool], batches, mean, slow)
        running = np.minimum(queue.at, queue.servers)
        batch = np.clip(running / engines, 1.0, slots)
        whole_s = np.interp(batch, batches, times.whole_s)
        weights = self._weights(queue)
        told: dict[str, float] = {
            "first_s": float(weights @ np.interp(batch, batches, times.first_s)),
            "token_s": float(weights @ np.interp(batch, batches, times.token_s)),
            "running": 1.0 / float(weights @ (1.0 / batch)),
            "beside": slow,
            "written": come * (asked.held + (asked.later + 1.0) / 2.0) / engines,
            "kept": max(float(park.laws["kv"][pool]) - asked.held * float(weights @ batch), 0.0),
        }
        for name, value in told.items():
            self._figures[FIGURES.index(name), pool, window] = value
        self._active[pool] = min(queue.mean / engines, 1.0)
        tokens_s = (mean.later * told["token_s"]) ** 2 * (asked.varied)
        prompts_s = mean.prompt_s**2 * (mean.varied - 1.0)
        mean_s = float(weights @ whole_s)
        varied = (tokens_s + max(prompts_s, 0.0)) / mean_s**2
        return running / whole_s, varied, mean_s


def _unseen(windows: float) -> float:
    """Return the share of variance that windows do not tell, by their width over a relaxation."""
    half = max(windows, 1e-3) / 2.0
    return 1.0 - math.tanh(half) / half
