"""How busy pools were and how many steps waited, over time, in a fixed number of bins.

Bins begin a millisecond wide and double their width as often as time needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polysilicon.schedule.types import Codes, Floats
from polysilicon.simulate.machines import Machines

BINS = 512

_FIRST_S = 1e-3


class Series:
    """Steps that ran and waited, by pool and time.

    Args:
        machines: of the pools.
    """

    def __init__(self, machines: Sequence[Machines]) -> None:
        self.names = [m.pool.name for m in machines]
        self.begun_s: float | None = None
        self.width_s = _FIRST_S
        self._running = np.zeros((len(machines), BINS))
        self._waiting = np.zeros((len(machines), BINS))

    def add(self, steps: Any) -> None:
        """Count steps that ended."""
        steps = steps[steps["pool"] >= 0]
        if not len(steps):
            return
        if self.begun_s is None:
            self.begun_s = float(steps["ready_s"].min())
        while self.begun_s + BINS * self.width_s < float(steps["end_s"].max()):
            self.width_s *= 2.0
            for counts in (self._running, self._waiting):
                counts[:, : BINS // 2] = counts[:, ::2] + counts[:, 1::2]
                counts[:, BINS // 2 :] = 0.0
        self._spread(self._waiting, steps["ready_s"], steps["start_s"], steps["pool"])
        self._spread(self._running, steps["start_s"], steps["end_s"], steps["pool"])

    def _spread(self, counts: Floats, start_s: Floats, end_s: Floats, pool: Codes) -> None:
        """Add the seconds of spans to the bins that they lie in."""
        assert self.begun_s is not None
        bins = counts.shape[1]
        ends = [np.clip((at - self.begun_s) / self.width_s, 0.0, bins - 1e-9)
                for at in (start_s, end_s)]  # fmt: skip
        # The seconds before t, differentiated: a span adds a ramp at its start and takes one away
        # at its end.
        for at, sign in zip(ends, (1.0, -1.0), strict=True):
            low = at.astype(np.int64)
            inside = (low + 1.0 - at) * self.width_s
            flat = pool * bins + low
            more = np.bincount(flat, weights=sign * inside, minlength=counts.size)
            counts += more.reshape(counts.shape)
            after = np.bincount(flat, weights=np.full(len(flat), sign), minlength=counts.size)
            steps_in = np.cumsum(after.reshape(counts.shape), axis=1)
            counts[:, 1:] += steps_in[:, :-1] * self.width_s

    def table(self) -> dict[str, Any]:
        """Return the bins that time reached: their middles, and means by pool."""
        if self.begun_s is None:
            return {"at_s": [], "running": {}, "waiting": {}}
        used = np.flatnonzero((self._running + self._waiting).any(axis=0))
        last = int(used[-1]) + 1 if len(used) else 1
        at_s = self.begun_s + (np.arange(last) + 0.5) * self.width_s

        def means(counts: Floats) -> dict[str, list[float]]:
            values = np.maximum(counts[:, :last] / self.width_s, 0.0).round(6)
            return dict(zip(self.names, values.tolist(), strict=True))

        return {
            "at_s": at_s.tolist(),
            "running": means(self._running),
            "waiting": means(self._waiting),
        }
