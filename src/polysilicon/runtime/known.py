"""What is known of the pools of a fleet, as arrays that are kept up as steps come and go.

A decision looks at all pools, but asks only those anew at which something has changed since the
last one, so that it costs what the rules over arrays cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np

from polysilicon.catalog.policy import Policy
from polysilicon.runtime.pools import RunningPool
from polysilicon.runtime.scope import StepCall
from polysilicon.schedule.types import Flags, Floats

T = TypeVar("T")
_MOST = 256
"""Names of steps, classes of data and sets of pools whose arrays are kept."""


class Loads:
    """Price, work and queue of each pool for steps of one resource and name.

    Attributes:
        price_usd_per_s: of a step's share, shape (pools,); 0 where there is no such resource.
        work_s: mean service, shape (pools,).
        queue_s: until there is room, shape (pools,).
    """

    def __init__(self, pools: Sequence[RunningPool], resource: str, name: str) -> None:
        self._pools, self._resource, self._name = pools, resource, name
        self.price_usd_per_s, self.work_s, self.queue_s = np.zeros((3, len(pools)))
        self._seen = np.full(len(pools), -1, np.int64)

    def update(self, changes: Any) -> None:
        """Ask the pools anew whose number of changes is another than it was."""
        for at in np.flatnonzero(self._seen != changes).tolist():
            pool = self._pools[at]
            if self._resource in pool.gates:
                load = pool.load(self._resource, self._name)
                self.price_usd_per_s[at], self.work_s[at], self.queue_s[at] = load
        self._seen[:] = changes


class Known:
    """What is known of the pools.

    Args:
        pools: of the fleet.
        policy: says where data may be.
    """

    def __init__(self, pools: Sequence[RunningPool], policy: Policy) -> None:
        self._pools, self._policy = pools, policy
        self._regions = list(dict.fromkeys(pool.region for pool in pools))
        self._region = np.array([self._regions.index(pool.region) for pool in pools], np.int64)
        self._place = {pool.name: at for at, pool in enumerate(pools)}
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._gates = {resource: [pool.gates.get(resource) for pool in pools]
                       for resource in {name for pool in pools for name in pool.gates}}  # fmt: skip
        self._changes = {name: np.zeros(len(pools), np.int64) for name in self._gates}
        for resource, gates in self._gates.items():
            for at, gate in enumerate(gates):
                if gate is not None:
                    beside = pools[at].beside if resource == "engine" else ()
                    places = [at, *(there for pool in beside
                                    if (there := self.place_of(pool)) is not None)]  # fmt: skip
                    gate.changed = _counting(self._changes[resource], places if beside else at)
        self.holding = [gate for gates in self._gates.values() for gate in gates
                        if gate is not None and gate.holds]  # fmt: skip

    def _cached(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for a key, of the keys asked for last."""
        found: T | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def place_of(self, pool: RunningPool) -> int | None:
        """Return where a pool of the fleet is in the arrays; None where it is no more in it."""
        at = self._place.get(pool.name)
        return at if at is not None and self._pools[at] is pool else None

    def serves(self, call: StepCall) -> Flags:
        """Return which pools can run such steps, whatever the policy says."""
        what = (
            "serves",
            call.kind,
            call.model,
            call.name if call.model is None else "",
            call.resource,
            call.sandbox,
            call.adapter,
        )
        return self._cached(what, lambda: np.array([p.serves_call(call) for p in self._pools]))

    def asked(self, call: StepCall) -> Flags:
        """Return which pools a call may use, by its own word."""
        only = call.only
        return self._cached(
            ("asked", only),
            lambda: np.array([only is None or pool.name in only for pool in self._pools]),
        )

    def resident(self, data_class: str | None) -> Flags:
        """Return where data of a class may be."""

        def make() -> Any:
            allowed = [self._policy.resident(data_class, region) for region in self._regions]
            return np.array(allowed)[self._region]

        return self._cached(("resident", data_class), make)

    def up(self, resource: str, now_s: float) -> Flags:
        """Return which pools are up, of those that have a resource."""
        gates = self._gates.get(resource, [None] * len(self._pools))
        return np.array([
            gate is not None and (gate.health.failures == 0 or gate.health.up(now_s))
            for gate in gates
        ])  # fmt: skip

    def loads(self, resource: str, name: str) -> Loads:
        """Return price, work and queue of each pool for such steps, as they are now."""
        found = self._cached(("loads", resource, name), lambda: Loads(self._pools, resource, name))
        found.update(self._changes[resource])
        return found

    def saved_s(self, prompts: dict[str, int]) -> Floats:
        """Return what the prefix caches save a task, shape (pools,)."""
        found = np.zeros(len(self._pools))
        for name in prompts:
            at = self._place.get(name)
            if at is not None:
                found[at] = self._pools[at].saved_s(prompts)
        return found

    def watts_a_slot(self, resource: str) -> Floats:
        """Return the power of one step's share, shape (pools,)."""
        return np.array([
            0.0 if gate is None else (pool.watts or 0.0) / pool.shared_by(resource)
            for pool, gate in zip(self._pools, self._gates[resource], strict=True)
        ])  # fmt: skip


def _counting(changes: Any, at: int | list[int]) -> Callable[[], None]:
    """Return what counts a change of one pool, or of some."""

    def changed() -> None:
        changes[at] += 1

    return changed
