"""Pools at work: an engine, room for so many steps at once, and a price."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from polysilicon import schedule
from polysilicon.catalog.fleet import LOCAL, Pool
from polysilicon.runtime.batches import Batch, Reads
from polysilicon.runtime.cores import Cores
from polysilicon.runtime.engines.late import Late
from polysilicon.runtime.gates import Gate
from polysilicon.runtime.jobs import Executor
from polysilicon.runtime.meter import SharedCpu
from polysilicon.runtime.scope import ANY_MODEL, StepCall
from polysilicon.runtime.types import Engine
from polysilicon.schedule.types import plain

_queued_s, _smoothed = plain(schedule.queued_s), plain(schedule.smoothed)

Price = Callable[[float | None, float], tuple[float | None, float | None]]
"""`price(cpu_s, service_s)` is dollars and joules of a step, None where unknown."""

MOST_WAITING = 256
"""Tools that only wait for others, at once."""

_MOST_KNOWN = 1000
"""Kinds and names of steps of which it is remembered whether the pool serves them, and names that
its engine was tried with."""

_TRIALS = 3
"""Steps of a name that an engine has had before it is known how it does beside others."""

_AGAIN = 32
"""An engine that lost is tried again once others on its cores have had so many steps of the name
since, and so many times the seconds that one takes there: so little of both goes to that."""

_REFUSED_S = 3600.0
"""A step is taken to take so long at an engine beside others that refused such ones: it is asked
last."""

_TELLING_TOKENS = 32
"""Of a prompt with fewer new tokens the first one comes after a way there and back, mostly."""


class RunningPool:
    """A pool of the fleet while a run uses it.

    Args:
        pool: as in the fleet file.
        engine: answers its `llm` steps; None where it has none.
        cores: cores for tools; 0 for an endpoint.
        price: dollars and joules of a step.
        usd_per_s: dollars for a second of all of it.
        watts: of all of it; None where that is not known.
        executor: does its tools' jobs, on other machines; None where this one does.
        sandboxes: of its tools only code for one of these runs there; None for all tools.

    Attributes:
        beside: pools whose engines compute on the same cores.
        seconds: divides its seconds among the steps that are there at once, which it is priced by;
            None where each is priced by its own seconds.
    """

    def __init__(
        self,
        pool: Pool,
        engine: Engine | None,
        cores: int,
        price: Price,
        usd_per_s: float,
        watts: float | None = None,
        executor: Executor | None = None,
        sandboxes: Collection[str] | None = None,
    ) -> None:
        self.as_given = pool
        self.name = pool.name
        self.offer_name = pool.offer
        self.region = LOCAL if pool.offer == LOCAL else pool.region
        self.units = pool.units
        self.watts = watts
        self._token_s = 0.0
        self.reads = Reads()
        self.engine = engine
        self.late = engine if isinstance(engine, Late) else None
        self.executor = executor
        self.sandboxes = sandboxes
        self.beside: tuple[RunningPool, ...] = ()
        self.seconds: SharedCpu | None = None
        self._tried: dict[str, tuple[int, int]] = {}
        self._passed: dict[str, tuple[int, float]] = {}
        self.price = price
        self.usd_per_s = usd_per_s
        here = executor is None
        self.in_process = here and engine is not None and pool.engine == "llama.cpp"
        self.gates: dict[str, Gate] = {}
        self.cores = Cores(cores, getattr(engine, "threads", cores) if self.in_process else 0)
        self._serves: dict[tuple[str | None, ...], bool] = {}
        if engine is not None:
            slots = pool.concurrency * pool.units
            self.gates["engine"] = Gate(
                slots, self.saved_s, Batch(slots), cached=self._cached, holds=self.in_process,
                reserve=1,
            )  # fmt: skip
        if cores:
            room = (lambda: self.cores.for_tools) if here else None
            # Sandboxes elsewhere are as many as its cores: more would wait within their limit.
            front = cores if sandboxes is None else 0
            self.gates["cpu"] = Gate(cores, front=front, room=room)
            self.cores.freed = self.gates["cpu"].admit
            if self.in_process:
                self.gates["engine"].busy = self.cores.computes
        if cores and sandboxes is None:
            self.gates["wait"] = Gate(MOST_WAITING)

    def serves(self, kind: str, what: str, resource: str, sandbox: str | None = None) -> bool:
        """Tell whether steps of this kind and name (or model) can run here.

        Args:
            kind: of the steps.
            what: their name, or model.
            resource: that they wait for.
            sandbox: that they run in; None of those that run in none.
        """
        asked = kind, what, resource, sandbox
        known = self._serves.get(asked)
        if known is None:
            if len(self._serves) >= _MOST_KNOWN:
                self._serves.clear()
            known = self._serves[asked] = self._told(*asked)
        return known

    def _told(self, kind: str, what: str, resource: str, sandbox: str | None) -> bool:
        if resource not in self.gates or not self.as_given.serves_step(kind, what):
            return False
        if resource == "cpu" and self.sandboxes is not None:
            return sandbox in self.sandboxes
        return resource != "engine" or self.engine is None or what == self.engine.model

    def serves_call(self, call: StepCall) -> bool:
        """Tell whether a step can run here, whatever the policy says."""
        what = call.model or call.name
        if what == ANY_MODEL and self.engine is not None:
            what = self.engine.model
        if call.adapter and self.as_given.engine == "openai":  # the protocol has no such thing
            return False
        return self.serves(call.kind, what, call.resource, call.sandbox)

    async def close(self) -> None:
        """End its engine, and its machines where it has some of its own."""
        closing = [part.close() for part in (self.engine, self.executor) if part is not None]
        await asyncio.gather(*closing, return_exceptions=True)

    def load(self, resource: str, name: str = "") -> tuple[float, float, float]:
        """Return dollars a second of one step's share, mean service and queue in seconds.

        Engines on the same cores have the same price, which is shared by the steps that are there
        now, as many as an engine takes. So the one is chosen of which steps of this name were seen
        to take the least of the machine. One that would be tried is taken to take no time.
        """
        gate = self.gates[resource]
        there = gate.running + gate.waiting
        queue_s = _queued_s(gate.mean_s, there, max(gate.in_turn, 1))
        service_s = gate.service_s(name)
        if resource == "engine" and self.beside:
            others = [pool.gates["engine"] for pool in self.beside]
            queue_s += max((o.mean_s for o in others if o.running), default=0.0)
            if self.would_try(name):
                service_s = 0.0
            elif self._refuses(name):
                service_s = _REFUSED_S
        told = self.as_given.usd_per_s
        usd_per_s = self.usd_per_s / self.shared_by(resource) if told is None else told
        return usd_per_s, service_s, queue_s

    def shared_by(self, resource: str) -> int:
        """Return how many steps share its price and power: as many as it takes at once.

        Of engines on the same cores as many as are there now, and one more.
        """
        gate = self.gates[resource]
        if resource != "engine" or not self.beside:
            return gate.cap
        gates = [gate, *(pool.gates["engine"] for pool in self.beside)]
        return min(gate.cap, sum(each.running + each.waiting for each in gates) + 1)

    def tried(self, name: str, *, refused: bool) -> None:
        """Note that the engine, which was up, has had a step of a name, and whether it refused."""
        if name in self._tried or len(self._tried) < _MOST_KNOWN:
            tried, refusals = self._tried.get(name, (0, 0))
            self._tried[name] = tried + 1, refusals + refused
            self._passed.pop(name, None)

    def passed_by(self, name: str, service_s: float) -> None:
        """Note that an engine on the same cores has had a step of a name, for so long."""
        if name in self._tried:
            steps, seconds = self._passed.get(name, (0, 0.0))
            self._passed[name] = steps + 1, seconds + service_s

    def would_try(self, name: str) -> bool:
        """Tell whether a step of a name would be a trial of the engine, which stands beside others.

        It is idle, and hardly known. Or it was passed by for long, and no other one computes.
        """
        gate = self.gates["engine"]
        if not self.beside or gate.running + gate.waiting:
            return False
        tried, refusals = self._tried.get(name, (0, 0))
        if tried < _TRIALS and gate.times_s(name).size < _TRIALS:
            return name in self._tried or len(self._tried) < _MOST_KNOWN
        steps, seconds = self._passed.get(name, (0, 0.0))
        if steps < _AGAIN or seconds < _AGAIN * gate.service_s(name) or tried == refusals:
            return False
        others = (pool.gates["engine"] for pool in self.beside)
        return not any(other.running + other.waiting for other in others)

    def _refuses(self, name: str) -> bool:
        """Tell whether the engine refused all steps of a name that it has had."""
        tried, refusals = self._tried.get(name, (0, 0))
        return tried == refusals >= _TRIALS

    def prefilled(self, tokens: int, seconds: float) -> None:
        """Note how long it took to the first token, with so many prompt tokens that were new."""
        if tokens >= _TELLING_TOKENS and seconds > 0:
            self._token_s = _smoothed(self._token_s, seconds / tokens)

    def decoded(self, tokens: int, begin_s: float, end_s: float, batch: float) -> None:
        """Note when an answer's first and last token came, and beside how many others.

        What it stood still for the prompts of others is left out; see `Gate.noted`.
        """
        self.gates["engine"].noted(*self.reads.decoding(tokens, begin_s, end_s), batch)

    def _cached(self, prompts: Mapping[str, int]) -> int:
        return prompts.get(self.name, 0)

    def saved_s(self, prompts: Mapping[str, int]) -> float:
        """Return seconds that the prefix cache saves a task, by the prompt it last left here.

        Args:
            prompts: pool → tokens of the task's last prompt there.
        """
        return self._token_s * prompts.get(self.name, 0)
