"""What the steps of a window ask of one pool's cores or engines."""

from __future__ import annotations

import msgspec
import numpy as np

from polysilicon.schedule.types import Floats
from polysilicon.simulate.fluid.flows import SUMS, Flows
from polysilicon.simulate.fluid.park import Park


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The mean step of a window.

    Attributes:
        count: how many there are.
        threads: that one holds; of engines 1, a slot.
        size: threads of a step, weighted by threads.
        work_s: thread-seconds where nothing slows it; of cores.
        prompt_s: of its prompt alone; of engines.
        prompt_varied: mean square of that over the squared mean.
        later: tokens after the first.
        contexts: these, each times its context.
        held: tokens in memory, on average.
        bursts: dispersion of arrivals.
        varied: variance of work, or of later tokens, over the squared mean.
    """

    count: float
    threads: float
    size: float
    work_s: float
    prompt_s: float
    prompt_varied: float
    later: float
    contexts: float
    held: float
    bursts: float
    varied: float

    def towards(self, other: Asked, share: float) -> Asked:
        """Return this with a share of another one."""
        return Asked(
            **{
                name: getattr(self, name) * (1.0 - share) + getattr(other, name) * share
                for name in self.__struct_fields__
            }
        )


class Demand:
    """Sums of windows, read for one pool.

    Args:
        park: the fleet.
        flows: sums.
    """

    def __init__(self, park: Park, flows: Flows) -> None:
        self._park, self._flows = park, flows
        self._bursts = flows.bursts()
        self._counts = flows.of("count").sum(axis=1)
        self._means = flows.sums.sum(axis=2) / np.maximum(self._counts, 1.0)[:, None]
        self._prompts = flows.prompt_s.sum(axis=2) / np.maximum(self._counts, 1.0)[:, None]

    def slots(self) -> Floats:
        """Return sequences that an engine of each pool holds: by its slots and by its memory."""
        park = self._park
        able = park.routes["able"] & park.engine[:, None]
        held = self._counts * self._means[:, SUMS.index("held")]
        total = able.T @ self._counts
        mean = (able.T @ held) / np.maximum(total, 1.0)
        room = np.where(mean > 0, park.laws["kv"] / np.maximum(mean, 1.0), np.inf)
        return np.maximum(np.minimum(park.laws["slots"], room), 1.0)

    def of(self, gate: int, pool: int, window: int, share: Floats) -> Asked | None:
        """Return what a window asks of cores (0) or engines (1); None of nothing.

        Args:
            gate: which.
            pool: whose.
            window: which.
            share: of each route's steps that goes there, shape (routes,).
        """
        park, flows = self._park, self._flows
        share = np.where(park.engine == bool(gate), share, 0.0)
        sums = dict(zip(SUMS, share @ flows.sums[:, :, window], strict=True))
        if sums["count"] <= 0.0:
            return None
        amount = park.routes["amount"][:, pool]
        work_s = float((share * amount) @ flows.of("work")[:, window]) + float(sums["startup"])
        mine = share * flows.of("count")[:, window] / sums["count"]
        prompt_s = float(share @ flows.prompt_s[:, pool, window])
        column = len(park.pools) + gate
        square = float(mine @ self._squares(column))
        if gate:
            mean = float(mine @ self._means[:, SUMS.index("later")])
        else:
            worked = self._means[:, SUMS.index("work")] + self._means[:, SUMS.index("startup")]
            mean = float(mine @ (worked / np.maximum(self._means[:, SUMS.index("threads")], 1.0)))
        prompt = float(mine @ self._prompts[:, pool])
        return Asked(
            count=float(sums["count"]),
            threads=float(sums["threads"] / sums["count"]),
            size=float(sums["squares"] / max(sums["threads"], 1e-12)),
            work_s=work_s / float(sums["count"]),
            prompt_s=prompt_s / float(sums["count"]),
            prompt_varied=max(float(mine @ self._squares(pool)) / max(prompt, 1e-12) ** 2, 1.0),
            later=float(sums["later"] / sums["count"]),
            contexts=float(sums["contexts"] / sums["count"]),
            held=float(sums["held"] / sums["count"]),
            bursts=float(mine @ self._bursts),
            varied=max(square / max(mean, 1e-12) ** 2 - 1.0, 0.0),
        )

    def _squares(self, column: int) -> Floats:
        """Return the mean squares of single steps of each route, over all time."""
        return np.asarray(self._flows.squares[:, column] / np.maximum(self._counts, 1.0))
