"""Pools on a cluster, opened for a run: machines, engine, prices, and room that follows them."""

from __future__ import annotations

import time

import msgspec

from polysilicon import catalog, cost
from polysilicon.catalog.fleet import LOCAL, Pool
from polysilicon.errors import InputError
from polysilicon.runtime.cluster.cluster import Cluster
from polysilicon.runtime.cluster.engine import ClusterEngine
from polysilicon.runtime.cluster.machines import Machines
from polysilicon.runtime.health import FAILURES
from polysilicon.runtime.machine import usd_per_hour
from polysilicon.runtime.pools import MOST_WAITING, Price, RunningPool
from polysilicon.units import SECONDS_PER_HOUR


async def open_pool(cluster: Cluster, pool: Pool, local: catalog.Offer) -> RunningPool:
    """Return a pool of the cluster, with its first machine serving; the others join as they come.

    Args:
        cluster: that has its machines.
        pool: of the fleet.
        local: what `local` is priced as.

    Raises:
        InputError: its price is not known, or its machines cannot serve.
    """
    here = pool.offer == LOCAL or cluster.embedded  # whatever it is called, it is this machine
    offer = local if here else _offer(pool)
    unit_usd_per_s = (local.usd_per_hour() if here else usd_per_hour(pool)) / SECONDS_PER_HOUR
    machines = Machines(cluster, pool)
    hello = await machines.opened()
    engine = None
    if hello.model is not None:
        slots = pool.concurrency * pool.units
        engine = ClusterEngine(machines, pool.engine, hello.model, slots)
    tools = pool.engine == "llama.cpp"
    cores = (offer.vcpus if offer is not None else None) or hello.cores
    core_w = None if offer is None else cost.share_joules(offer, 1.0)
    unit_w = None if core_w is None else core_w * cores
    running = RunningPool(
        msgspec.structs.replace(pool, offer=LOCAL, region="") if here else pool,
        engine,
        hello.cores if tools else 0,
        _price(pool, unit_usd_per_s, cores, core_w),
        unit_usd_per_s,
        unit_w,
        executor=machines,
    )

    running.as_given = pool

    def changed() -> None:
        _follow(running, machines, unit_usd_per_s, unit_w)

    machines.changed = changed
    changed()
    return running


def _offer(pool: Pool) -> catalog.Offer | None:
    """Return what the catalog knows of a pool's offer; None where the pool states its own price."""
    try:
        return catalog.load().offer(pool.offer, pool.region or None)
    except InputError:
        if isinstance(pool.price, str):
            raise
        return None


def _price(pool: Pool, usd_per_s: float, cores: int, core_w: float | None) -> Price:
    """Price a step by its core-seconds, or its seconds in a slot where only those are known."""

    def price(cpu_s: float | None, service_s: float) -> tuple[float | None, float | None]:
        if cpu_s is None:
            return usd_per_s * service_s / pool.concurrency, None
        return usd_per_s * cpu_s / cores, None if core_w is None else core_w * cpu_s

    return price


def _follow(
    running: RunningPool, machines: Machines, unit_usd_per_s: float, unit_w: float | None
) -> None:
    """Give a pool the room of the machines that it has; with none it is drained until one joins."""
    members = machines.members
    count = max(1, len(members))
    cores = sum(member.hello.cores for member in members)
    caps = {
        "cpu": cores,
        "wait": MOST_WAITING * count,
        "engine": running.as_given.concurrency * count,
    }
    running.usd_per_s = unit_usd_per_s * count
    running.watts = None if unit_w is None else unit_w * count
    for resource, gate in running.gates.items():
        if members:
            gate.health.succeeded()
        else:
            for _ in range(FAILURES):
                gate.health.failed(time.monotonic())
        gate.resize(max(1, caps[resource]))
