"""This machine and the endpoints of the fleet, opened for a run: engines, workers, prices."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from polysilicon import catalog, cost
from polysilicon.catalog.fleet import LOCAL, Fleet, OwnPrice, Pool, read_running_fleet
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.errors import InputError, nearest
from polysilicon.runtime import models
from polysilicon.runtime.dispatch import load_rules
from polysilicon.runtime.engines import open_engine
from polysilicon.runtime.engines.late import Late
from polysilicon.runtime.engines.native.choice import setup_of
from polysilicon.runtime.here import Here
from polysilicon.runtime.meter import SharedCpu
from polysilicon.runtime.pools import Price, RunningPool
from polysilicon.runtime.resources import Resources
from polysilicon.runtime.steps import StepRunner
from polysilicon.runtime.together import together
from polysilicon.runtime.turns import Turns
from polysilicon.runtime.types import Agent, Engine
from polysilicon.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from polysilicon.runtime.cluster.cluster import Cluster

_LOOK_S = 0.2


@dataclass(slots=True)
class Machine:
    """What a run works with; `close` ends all of it."""

    pools: list[RunningPool]
    here: Here
    model: str
    priced_as: str
    cluster: Cluster | None = None
    _turns: Turns = field(default_factory=Turns)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Let engines that share the cores of this machine take turns."""
        self._turns.share(self.pools)

    def resources(self, runner: StepRunner, clock: Callable[[], float]) -> Resources:
        """Return what the contexts of the run share."""
        return Resources(runner=runner, here=self.here, model=self.model, clock=clock)

    def take(self, pools: list[RunningPool]) -> None:
        """Work with other pools; engines of those that go are closed after their last step.

        Whoever chooses between them is made after this, as it sets which ones share cores.
        """
        gone = [pool for pool in self.pools if pool not in pools]
        self.pools, self.model = pools, _default_model(pools, None)
        self._turns.share(pools)
        leaving = asyncio.create_task(self._close_idle(gone))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _close_idle(self, pools: list[RunningPool]) -> None:
        """Close the engines of pools that get no more steps, when they have none."""
        gates = [gate for pool in pools for gate in pool.gates.values()]
        while any(gate.running or gate.waiting for gate in gates):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        self._turns.left(pools)
        await _close(pools)

    async def discard(self, pools: list[RunningPool]) -> None:
        """Close the engines of pools that will not be taken."""
        await _close(pool for pool in pools if pool not in self.pools)

    async def close(self) -> None:
        """End engines, workers and sandboxes; one that fails to end does not keep the others."""
        engines = [_close(self.pools), *self._leaving]
        await asyncio.gather(self.here.close(), *engines, return_exceptions=True)
        if self.cluster is not None:
            self.cluster.close()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fleet_of(model: str | None, fleet_path: str | None, *, cluster: bool) -> Fleet:
    """Return the fleet of `fleet_path`, or this machine alone with `model` (or the default one).

    Raises:
        InputError: the file is wrong.
    """
    if fleet_path is None:
        return Fleet(pool=(Pool(name=LOCAL, model=model or models.DEFAULT_MODEL),))
    return read_running_fleet(Path(fleet_path), cluster=cluster)


async def open_machine(
    model: str | None,
    fleet_path: str | None,
    ray: str | None = None,
    agents: Iterable[Agent] = (),
    *,
    late: bool = False,
) -> Machine:
    """Open the fleet of `fleet_path`, or this machine alone with `model` (or the default one).

    Args:
        model: of this machine, or the default one of the fleet.
        fleet_path: a fleet file; None is this machine alone.
        ray: address of a Ray cluster that has machines of the fleet, or `local` for one here.
        agents: whose modules the worker processes import while the model is loaded.
        late: the local model is loaded when the first step asks it.

    Raises:
        InputError: the model, the fleet or the cluster cannot be had.
    """
    here = Here.opened(cores(), list(dict.fromkeys(agent.run.__module__ for agent in agents)))
    offer = local_offer(catalog.load(), detect())
    fleet = fleet_of(model, fleet_path, cluster=ray is not None)
    cluster = None
    if ray is None:
        _with_local(fleet, fleet_path or "")
    else:
        cluster = _joined(ray, fleet, here.cores)
    try:
        async with together() as group:
            # A second's work each, beside that of loading a model, which takes longer.
            group.create_task(asyncio.to_thread(load_rules, choosing=len(fleet.pool) > 1))
            if any(_is_local_engine(pool) for pool in fleet.pool):
                group.create_task(here.workers.start())
                group.create_task(here.front.start())
            pools = await _open_pools(fleet, here.cores, offer, cluster, late=late)
        default = _default_model(pools, model if fleet_path else None)
    except BaseException:
        await here.close()
        if cluster is not None:
            cluster.close()
        raise
    return Machine(
        pools=pools,
        here=here,
        model=default,
        priced_as=offer.note,
        cluster=cluster,
    )


def _joined(address: str, fleet: Fleet, here: int) -> Cluster:
    """Join a cluster, and ask it for the fleet's machines.

    Raises:
        InputError: there is no such cluster.
    """
    from polysilicon.runtime.cluster.cluster import Cluster  # noqa: PLC0415 - an extra

    cluster = Cluster(address, fleet.pool, here)
    cluster.request(fleet.pool)
    return cluster


async def _open_pools(
    fleet: Fleet, here: int, local: catalog.Offer, cluster: Cluster | None, *, late: bool
) -> list[RunningPool]:
    """Open pools, those of a cluster at once; where one cannot be, none stays open."""
    works = [_open_pool(pool, here, local, cluster, late=late) for pool in fleet.pool]
    opening = [asyncio.create_task(work) for work in works]
    try:
        return list(await asyncio.gather(*opening))
    except BaseException:
        for task in opening:
            task.cancel()
        ended = await asyncio.gather(*opening, return_exceptions=True)
        await _close(pool for pool in ended if isinstance(pool, RunningPool))
        raise


def _default_model(pools: list[RunningPool], wanted: str | None) -> str:
    """Return the model of `chat` steps that name none: the wanted one, or that of the first engine.

    Raises:
        InputError: no pool serves the wanted model.
    """
    served = [pool.engine.model for pool in pools if pool.engine is not None]
    if wanted is None or not served:
        return served[0] if served else models.DEFAULT_MODEL
    if wanted not in served:
        raise InputError(
            f"no pool of the fleet serves model {wanted!r}", mend=nearest(wanted, served)
        )
    return wanted


async def reopened(machine: Machine, fleet_path: Path) -> list[RunningPool]:
    """Return the pools of a fleet file that is read anew; `machine.take` puts them to work.

    Pools as they were are those of the machine, with their engine, queue and health.

    Raises:
        InputError: the file is wrong, or an engine cannot be had.
    """
    cluster = machine.cluster
    fleet = read_running_fleet(fleet_path, cluster=cluster is not None)
    if cluster is None:
        _with_local(fleet, str(fleet_path))
    else:
        cluster.request(fleet.pool)
    offer = local_offer(catalog.load(), detect())
    known = {pool.as_given: pool for pool in machine.pools}
    opened: list[RunningPool] = []
    try:
        for pool in fleet.pool:
            there = known.get(pool) or await _open_pool(pool, machine.here.cores, offer, cluster)
            opened.append(there)
    except BaseException:
        await machine.discard(opened)
        raise
    return opened


async def _close(pools: Iterable[RunningPool]) -> None:
    """End the engines of pools; one that fails to end does not keep the others."""
    await asyncio.gather(*(pool.close() for pool in pools), return_exceptions=True)


def _with_local(fleet: Fleet, where: str) -> None:
    """Raise `InputError` where a fleet has no pool for tools."""
    if not any(pool.offer == LOCAL for pool in fleet.pool):
        raise InputError("no pool has offer local", where=where, mend="tools need one")


def _is_local_engine(pool: Pool) -> bool:
    """Tell whether a pool has an engine that runs in this process."""
    llm = any(pattern.startswith(("llm", "*")) for pattern in pool.serves)
    return llm and pool.engine != "openai"


async def _open_pool(
    pool: Pool, here: int, local: catalog.Offer, cluster: Cluster | None, *, late: bool = False
) -> RunningPool:
    """Open the engine of a pool, or its machines in a cluster."""
    if cluster is not None and cluster.has(pool):
        from polysilicon.runtime.cluster.opening import open_pool  # noqa: PLC0415 - an extra

        return await open_pool(cluster, pool, local)
    engine: Engine | None = None
    if pool.engine == "openai":
        return _open_server(pool, here, local) if pool.is_here else open_endpoint(pool, _key(pool))
    if _is_local_engine(pool):
        path = await asyncio.to_thread(models.pull, pool.model or models.DEFAULT_MODEL)
        setup = await asyncio.to_thread(setup_of, pool, path, here)
        make = Late if late else partial(open_engine, "llama.cpp")
        engine = await asyncio.to_thread(make, path=path, concurrency=pool.concurrency, setup=setup)
    usd_per_s = cost.share_usd(local, float(here))
    watts = cost.share_joules(local, float(here))  # of one second
    return RunningPool(pool, engine, here, _by_core(local), usd_per_s, watts)


def _open_server(pool: Pool, here: int, local: catalog.Offer) -> RunningPool:
    """Open a pool whose engine is a server on the cores of this machine."""
    told = isinstance(pool.price, OwnPrice)
    usd_per_s = usd_per_hour(pool) / SECONDS_PER_HOUR if told else cost.share_usd(local, here)
    watts = cost.share_joules(local, float(here))  # of one second
    engine = endpoint_engine(pool, _key(pool))
    found = RunningPool(pool, engine, 0, _by_seconds(usd_per_s, watts), usd_per_s, watts)
    found.seconds = SharedCpu(time.monotonic)
    return found


def open_endpoint(pool: Pool, key: str | None) -> RunningPool:
    """Open a pool whose engine is an endpoint.

    Args:
        pool: with endpoint and model.
        key: that the endpoint asks for.

    Raises:
        InputError: the endpoint is no address, or no price is known.
    """
    usd_per_s = usd_per_hour(pool) * pool.units / SECONDS_PER_HOUR
    return RunningPool(pool, endpoint_engine(pool, key), 0, _by_slot(usd_per_s, pool), usd_per_s)


def endpoint_engine(pool: Pool, key: str | None) -> Engine:
    """Return the engine of a pool that is an endpoint.

    Raises:
        InputError: the endpoint is no address.
    """
    return open_engine(
        "openai",
        endpoint=pool.endpoint,
        model=pool.model,
        concurrency=pool.concurrency * pool.units,
        key=key,
    )


def _key(pool: Pool) -> str | None:
    """Return the key of a pool's endpoint.

    Raises:
        InputError: the pool names an environment variable that is not set.
    """
    if pool.key_env is None:
        return None
    key = os.environ.get(pool.key_env)
    if not key:
        raise InputError(f"{pool.key_env} is not set", where=f"pool {pool.name!r}, key_env")
    return key


def _by_core(offer: catalog.Offer) -> Price:
    """Price a step by its core-seconds: its share of this machine."""

    def price(cpu_s: float | None, _service_s: float) -> tuple[float | None, float | None]:
        if cpu_s is None:
            return None, None
        return cost.share_usd(offer, cpu_s), cost.share_joules(offer, cpu_s)

    return price


def _by_slot(usd_per_s: float, pool: Pool) -> Price:
    """Price a step by its seconds in one of the endpoint's slots: its share of those machines."""

    def price(_cpu_s: float | None, service_s: float) -> tuple[float | None, float | None]:
        return usd_per_s * service_s / (pool.concurrency * pool.units), None

    return price


def _by_seconds(usd_per_s: float, watts: float | None) -> Price:
    """Price a step by its part of the seconds of the machine, all of whose cores a server has."""

    def price(_cpu_s: float | None, part_s: float) -> tuple[float | None, float | None]:
        return usd_per_s * part_s, None if watts is None else watts * part_s

    return price


def usd_per_hour(pool: Pool) -> float:
    """Return the price of one unit of an endpoint's pool.

    Raises:
        InputError: the catalog has no such offer, or no such price of it.
    """
    if isinstance(pool.price, OwnPrice):
        return pool.price.usd_per_hour
    return catalog.load().offer(pool.offer, pool.region or None).usd_per_hour(pool.price)
