"""Engines that share the cores of this machine, and compute one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from polysilicon.catalog.fleet import LOCAL
from polysilicon.runtime.gates import always, nobody

if TYPE_CHECKING:
    from polysilicon.runtime.cores import Cores
    from polysilicon.runtime.gates import Gate
    from polysilicon.runtime.pools import RunningPool

TURN_S = 5.0
"""For so long an engine takes further steps although some wait for another one on its cores."""


class Turns:
    """Whose turn it is to compute on the cores of this machine.

    Threads of an engine wait for each other some hundred times a token, so that two engines at once
    take many times as long as in turn. Whoever computes takes further steps for `TURN_S`; then, if
    steps wait for another one, it ends those that it has, and the next one has its turn. An engine
    that leaves the fleet has turns until it has ended its steps.
    """

    def __init__(self) -> None:
        self._threads: dict[Gate, int] = {}  # of each engine, in the order of their turns
        self._cores: list[Cores] = []
        self._since_s = -math.inf

    def share(self, pools: Sequence[RunningPool]) -> None:
        """Let engines of a fleet take turns, and tools have what any of them leaves."""
        owners = [pool for pool in pools if pool.as_given.offer == LOCAL and pool.cores.count]
        servers = [pool for pool in pools if pool.as_given.is_here and pool.executor is None]
        engines = (*(pool for pool in owners if pool.in_process), *servers)
        count = max((owner.cores.count for owner in owners), default=0)  # a server has them all
        for pool in engines:
            pool.beside = tuple(other for other in engines if other is not pool)
            threads = pool.cores.threads if pool.in_process else count
            self._threads[pool.gates["engine"]] = threads
        for owner in owners:
            owner.cores.servers = len(servers)
            if owner.cores not in self._cores:
                self._cores.append(owner.cores)
        self._join()

    def left(self, pools: Sequence[RunningPool]) -> None:
        """Forget pools that have ended their last step."""
        for pool in pools:
            if pool.cores in self._cores:
                self._cores.remove(pool.cores)
            gate = pool.gates.get("engine")
            if gate is not None and self._threads.pop(gate, None) is not None:
                gate.turn, gate.busy = always, nobody
        self._join()

    def _join(self) -> None:
        """Have the gates ask whether it is their turn, unless there is but one."""
        alone = len(self._threads) < 2
        for gate in self._threads:
            gate.turn = always if alone else partial(self._may_take, gate)
            gate.busy = partial(self._alone if alone else self._computes, gate)
        self._tell()

    def _tell(self) -> None:
        """Tell the cores what an engine has of them."""
        taken = max((threads for gate, threads in self._threads.items() if gate.running), default=0)
        for cores in self._cores:
            cores.taken(taken)

    def _may_take(self, gate: Gate) -> bool:
        others = [other for other in self._threads if other is not gate]
        if any(other.running for other in others):
            return False
        asked = gate.running and any(other.waiting for other in others)
        return not asked or time.monotonic() - self._since_s < TURN_S

    def _alone(self, gate: Gate, computing: bool) -> None:  # noqa: FBT001 - as `Cores.computes`
        for cores in self._cores:
            cores.taken(self._threads[gate] if computing else 0)

    def _computes(self, gate: Gate, computing: bool) -> None:  # noqa: FBT001 - as `Cores.computes`
        self._tell()
        if computing:
            self._since_s = time.monotonic()
            return
        for other in self._after(gate):
            other.admit()

    def _after(self, gate: Gate) -> Iterator[Gate]:
        """Yield the other gates, from the one whose turn follows that of a gate."""
        gates = list(self._threads)
        at = gates.index(gate)
        yield from gates[at + 1 :]
        yield from gates[:at]
