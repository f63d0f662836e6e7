"""Pools at work: an engine, room for so many steps at once, and a price."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from polysilicon import schedule
from polysilicon.catalog.fleet import LOCAL, Pool
from polysilicon.runtime.health import Health
from polysilicon.runtime.scope import ANY_MODEL, StepCall
from polysilicon.runtime.types import Engine

Price = Callable[[float | None, float], tuple[float | None, float | None]]
"""`price(cpu_s, service_s)` is dollars and joules of a step, None where unknown."""

MOST_WAITING = 256
"""Tools that only wait for others, at once."""

_TELLING_TOKENS = 32
"""Of a prompt with fewer new tokens the first one comes after a way there and back, mostly."""

_MOST_NAMES = 1000
"""Names of steps whose mean service is kept; those of others is that of all."""


class Waiter(Protocol):
    """Whoever waits at a gate; `deadline_s` is by `time.monotonic`, infinite without one."""

    attained_s: float
    klass: int
    deadline_s: float


class Gate:
    """Room for `cap` steps at once; the waiting ones enter in the order of `schedule.next_step`."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.running = 0
        self.mean_s = 0.0
        self.health = Health()
        self._means: dict[str, float] = {}
        self._waiting: list[tuple[asyncio.Future[None], Waiter, float]] = []

    @property
    def waiting(self) -> int:
        """How many steps wait."""
        return len(self._waiting)

    async def enter(self, task: Waiter) -> None:
        """Wait for room; whoever enters must call `leave`."""
        if self.running < self.cap and not self._waiting:
            self.running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, task, time.monotonic())
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # its turn came, but it cannot take it
            elif entry in self._waiting:
                self._waiting.remove(entry)
            raise

    def leave(self, service_s: float | None = None, name: str = "") -> None:
        """Make room; `service_s` updates the means that queues, and steps of `name`, go by."""
        self.running -= 1
        if service_s is not None:
            self.mean_s = schedule.smoothed(self.mean_s, service_s)
            if name in self._means or len(self._means) < _MOST_NAMES:
                self._means[name] = schedule.smoothed(self._means.get(name, 0.0), service_s)
        # Who was cancelled while waiting may not have taken itself off the list yet.
        self._waiting = [entry for entry in self._waiting if not entry[0].done()]
        for _ in range(schedule.admit(self.running, len(self._waiting), self.cap)):
            turn, _, _ = self._waiting.pop(self._next())
            self.running += 1
            turn.set_result(None)

    def _next(self) -> int:
        """Return which of the waiting steps runs next."""
        now_s = time.monotonic()
        tasks = [task for _, task, _ in self._waiting]
        return schedule.next_step(
            np.array([task.attained_s for task in tasks], np.float64),
            np.array([since_s for _, _, since_s in self._waiting], np.float64),
            np.array([task.klass for task in tasks], np.int64),
            np.array([task.deadline_s for task in tasks], np.float64) - now_s - self.mean_s,
            np.zeros(len(tasks)),
            now_s,
            schedule.STARVE_S,
        )

    def service_s(self, name: str) -> float:
        """Return the mean service of steps of a name; of all steps, or a guess, where none is."""
        return self._means.get(name) or self.mean_s or schedule.UNKNOWN_S


class RunningPool:
    """A pool of the fleet while a run uses it.

    Args:
        pool: as in the fleet file.
        engine: answers its `llm` steps; None where it has none.
        cores: cores for tools; 0 for an endpoint.
        price: dollars and joules of a step.
        usd_per_s: dollars for a second of all of it.
        watts: of all of it; None where that is not known.
    """

    def __init__(
        self,
        pool: Pool,
        engine: Engine | None,
        cores: int,
        price: Price,
        usd_per_s: float,
        watts: float | None = None,
    ) -> None:
        self.as_given = pool
        self.name = pool.name
        self.offer_name = pool.offer
        self.region = LOCAL if pool.offer == LOCAL else pool.region
        self.units = pool.units
        self.watts = watts
        self._token_s = 0.0
        self.engine = engine
        self.price = price
        self.usd_per_s = usd_per_s
        self.in_process = engine is not None and pool.engine == "llama.cpp"
        self.gates: dict[str, Gate] = {}
        if engine is not None:
            self.gates["engine"] = Gate(pool.concurrency * pool.units)
        if cores:
            self.gates["cpu"] = Gate(cores)
            self.gates["wait"] = Gate(MOST_WAITING)

    def serves(self, kind: str, what: str, resource: str) -> bool:
        """Tell whether steps of this kind and name (or model) can run here."""
        if resource not in self.gates or not self.as_given.serves_step(kind, what):
            return False
        return resource != "engine" or self.engine is None or what == self.engine.model

    def serves_call(self, call: StepCall) -> bool:
        """Tell whether a step can run here, whatever the policy says."""
        what = call.model or call.name
        if what == ANY_MODEL and self.engine is not None:
            what = self.engine.model
        return self.serves(call.kind, what, call.resource)

    def load(self, resource: str, name: str = "") -> tuple[float, float, float]:
        """Return dollars a second of one step's share, mean service and queue in seconds."""
        gate = self.gates[resource]
        queue_s = schedule.queued_s(gate.mean_s, gate.running + gate.waiting, gate.cap)
        told = self.as_given.usd_per_s
        usd_per_s = self.usd_per_s / gate.cap if told is None else told
        return usd_per_s, gate.service_s(name), queue_s

    def prefilled(self, tokens: int, seconds: float) -> None:
        """Note how long it took to the first token, with so many prompt tokens that were new."""
        if tokens >= _TELLING_TOKENS and seconds > 0:
            self._token_s = schedule.smoothed(self._token_s, seconds / tokens)

    def saved_s(self, prompts: Mapping[str, int]) -> float:
        """Return seconds that the prefix cache saves a task, by the prompt it last left here.

        Args:
            prompts: pool → tokens of the task's last prompt there.
        """
        return self._token_s * prompts.get(self.name, 0)
