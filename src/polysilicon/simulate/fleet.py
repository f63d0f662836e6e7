"""Machines of pools as arrays for the compiled functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polysilicon import schedule
from polysilicon.catalog.fleet import LOCAL, Link
from polysilicon.catalog.policy import Policy
from polysilicon.cost.llm.choose import own_profile
from polysilicon.cost.tools import host, rate
from polysilicon.errors import InputError
from polysilicon.schedule.types import Floats
from polysilicon.simulate import heaps
from polysilicon.simulate.machines import Machines, engine_of
from polysilicon.simulate.program import Route
from polysilicon.simulate.state import (
    BUCKET,
    BUCKETS,
    DECODE,
    ENGINE,
    GATE,
    LAW,
    NONE,
    POOL,
    ROUTE,
    STEP,
    TASK,
    WISH,
    World,
)
from polysilicon.units import SECONDS_PER_HOUR

_MOST_POINTS = 4096

# Machines of pools without end are not all down at once; more than these cannot be.
_MOST_DOWN = 2**22


def empty_world(
    fleet: Sequence[Machines],
    routes: Sequence[Route],
    policy: Policy,
    links: Sequence[Link],
    agents: int = 0,
) -> World:
    """Return a fleet at rest, without tasks.

    Args:
        fleet: machines of each pool.
        routes: of all steps that will come.
        policy: what is wanted.
        links: delays between regions.
        agents: how many there are; tasks name them by codes below this, or -1.
    """
    pools = pools_of(fleet, policy)
    laws, prefill, decode = laws_of(fleet)
    engines = _engines(pools, laws)
    able = routes_of(fleet, routes, links)
    vendors = list(dict.fromkeys(m.offer.cloud for m in fleet))
    failing = int(pools["machines"][np.isfinite(pools["failure_s"])].sum())
    alone, beside, slower = rates_of(fleet, pools["step"])
    return World(
        steps=np.zeros(0, STEP),
        tasks=np.zeros(0, TASK),
        edges=np.zeros(0, np.int64),
        routes=able,
        only=np.where(able["able"].sum(axis=1) == 1, able["able"].argmax(axis=1), NONE),
        pools=pools,
        alone=alone,
        beside=beside,
        slower=slower,
        laws=laws,
        prefill=prefill,
        decode=decode,
        engines=engines,
        loads=heaps.moving(pools["last"] - pools["first"], 0.0),
        buckets=_no_steps(len(fleet)),
        gates=np.zeros((len(fleet), 2), GATE),
        lengths=np.zeros(agents * schedule.REMEMBERED),
        lasted=np.zeros(agents, np.int64),
        usual_s=np.zeros(agents),
        vendor=np.array([vendors.index(m.offer.cloud) for m in fleet], np.int64),
        spent_usd=np.zeros(len(vendors)),
        most_share=np.array([policy.vendor_share_max.get(v, 1.0) for v in vendors]),
        wish=_wish(policy),
        stations=heaps.moving([2 + len(pools) + len(engines)], np.inf),
        delays=np.zeros(0, heaps.ENTRY),
        jobs=np.zeros(0, heaps.ENTRY),
        slots=np.zeros(int(laws["slots"][engines["pool"]].sum()), heaps.ENTRY),
        fails=np.zeros(len(pools) + min(failing, _MOST_DOWN), heaps.ENTRY),
        sizes=np.zeros(6, np.int64),
    )


def pools_of(fleet: Sequence[Machines], policy: Policy) -> Any:
    """Return pools at rest."""
    pools = np.zeros(len(fleet), POOL)
    units = np.array([m.pool.units for m in fleet], np.int64)
    copies = np.array([m.engine.copies if m.engine else 0 for m in fleet], np.int64)
    price = np.array([m.usd_per_s for m in fleet])
    threads = np.array([m.threads for m in fleet])
    pools["whole"] = pools["cores"] = threads * units
    pools["thread_usd_per_s"] = price / np.maximum(threads, 1.0)
    pools["engine_usd_per_s"] = price / np.maximum(copies, 1)
    pools["thread_price"], pools["slot_price"] = _prices(fleet, policy).T
    pools["last"] = np.cumsum(units * copies)
    pools["first"] = pools["last"] - units * copies
    pools["copies"] = np.maximum(copies, 1)
    pools["machines"] = pools["up"] = units
    both = (pools["whole"] > 0) & (copies > 0)
    pools["coupled"] = np.where(both, np.where(units == 1, 1, 2), 0)
    points = min(max(float(pools["whole"].max(initial=1.0)), 1.0), _MOST_POINTS)
    pools["step"] = np.maximum(pools["whole"], 1.0) / np.ceil(points)
    hourly = np.array([m.pool.interruptions_per_hour for m in fleet])
    with np.errstate(divide="ignore"):
        pools["failure_s"] = SECONDS_PER_HOUR / hourly
    pools["repair_s"] = [m.pool.restart_s for m in fleet]
    return pools


def _prices(fleet: Sequence[Machines], policy: Policy) -> Floats:
    """Return what a second of a step's share counts where not its part of the price; (pools, 2).

    Raises:
        InputError: energy is to be saved, and the power of a pool is not known.
    """
    found = np.full((len(fleet), 2), np.nan)
    for at, m in enumerate(fleet):
        if policy.objective != "energy":
            found[at] = np.nan if m.pool.usd_per_s is None else m.pool.usd_per_s
            continue
        if m.watts is None:
            mend = "take objective cost or latency"
            raise InputError("its power is not known", where=f"pool {m.pool.name!r}", mend=mend)
        slots = m.engine.slots * m.engine.copies if m.engine is not None else 1
        found[at] = m.watts.full_w / max(m.threads, 1.0), m.watts.full_w / slots
    return found


def routes_of(fleet: Sequence[Machines], routes: Sequence[Route], links: Sequence[Link]) -> Any:
    """Return what each pool makes of steps of each route."""
    found = np.zeros((len(routes), len(fleet)), ROUTE)
    for at, machines in enumerate(fleet):
        for route, ability in machines.abilities.items():
            delay_s = _delay_s(routes[route], machines, links)
            found[route, at] = (True, ability.amount, delay_s)
    return found


def _delay_s(route: Route, machines: Machines, links: Sequence[Link]) -> float:
    """Return seconds between a step's readiness and its arrival at the gate of a pool."""
    engine = machines.engine
    request_s = engine.request_s if route.kind == "llm" and engine is not None else 0.0
    ends = {route.region, machines.region}
    return request_s + sum(link.delay_s for link in links if set(link.regions) == ends)


def rates_of(fleet: Sequence[Machines], steps: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the speed of threads alone and beside busy engines, and how engines slow down.

    Args:
        fleet: machines of each pool.
        steps: threads between two points, of each pool.
    """
    whole = np.array([max(m.threads * m.pool.units, 1.0) for m in fleet])
    points = round(float((whole / steps).max(initial=1.0))) + 1
    found = np.ones((3, len(fleet), points))
    for at, machines in enumerate(fleet):
        if machines.threads:
            threads = np.arange(points) * steps[at] / machines.pool.units
            found[:, at] = _rates_of(machines, threads)
    return found[0], found[1], found[2]


def _rates_of(machines: Machines, threads: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the three by threads that run on one machine."""
    ones = np.ones_like(threads)
    profile = own_profile() if machines.pool.offer == LOCAL else None
    if profile is not None and machines.engine is not None:
        engine = engine_of(machines.pool)
        measured = [m for m in (*profile.llm.values(), *profile.servers) if m.engine == engine]
        points = sorted({(p.busy, p.engine, p.tool) for llm in measured for p in llm.stretch})
        busy = [0.0, *(float(many) for many, _, _ in points)]
        tools = np.interp(np.maximum(threads, 1.0), busy, [1.0, *(t for _, _, t in points)])
        slower = np.interp(threads, busy, [1.0, *(e for _, e, _ in points)])
        return ones, 1.0 / np.maximum(tools, 1.0), np.maximum(slower, 1.0)
    if profile is None and machines.threads != machines.offer.vcpus:  # counted by accelerators
        return ones, ones, ones
    machine = host(machines.offer)
    beside = rate(machine.vcpus + threads, machine)
    return rate(threads, machine), beside, float(rate(machine.vcpus, machine)) / beside


def laws_of(fleet: Sequence[Machines]) -> tuple[Any, Floats, Any]:
    """Return how the engines of each pool iterate; pools without one have zeros."""
    n, engines = len(fleet), [m.engine for m in fleet]
    slots = max((law.slots for law in engines if law), default=0) + 1
    points = max((len(law.tokens) for law in engines if law), default=2)
    laws, prefill, decode = np.zeros(n, LAW), np.zeros((n, points)), np.zeros((n, slots), DECODE)
    laws["grid"] = 1.0
    for at, law in enumerate(engines):
        if law is None:
            continue
        decode["base_s"][at, : law.slots + 1] = law.base_s
        decode["context_s"][at, : law.slots + 1] = law.context_s
        tokens = np.linspace(0.0, law.tokens[-1], points)
        prefill[at] = np.interp(tokens, law.tokens, law.prefill_s)
        batch = float(law.batch_tokens)
        laws[at] = (law.slots, batch, law.kv_tokens, tokens[1], law.pair_s, law.piece_s)
    return laws, prefill, decode


def _engines(pools: Any, laws: Any) -> Any:
    """Return idle engines."""
    counts = pools["last"] - pools["first"]
    engines = np.zeros(int(counts.sum()), ENGINE)
    engines["pool"] = np.repeat(np.arange(len(counts)), counts)
    slots = laws["slots"][engines["pool"]]
    engines["slot_at"] = np.cumsum(slots) - slots
    engines["until_s"] = np.inf
    engines["slow"] = engines["shared_by"] = 1.0
    engines["first"] = engines["last"] = NONE
    return engines


def _wish(policy: Policy) -> Any:
    """Return what the policy wants of the scheduler."""
    wish = np.zeros(1, WISH)
    latency = policy.objective == "latency"
    late = (schedule.LATE_USD_PER_S, schedule.SLO_LATE_USD_PER_S)
    wish[0] = (*late, latency, bool(policy.vendor_share_max))
    return wish


def _no_steps(pools: int) -> Any:
    """Return empty queues."""
    buckets = np.zeros((pools, 2, BUCKETS), BUCKET)
    buckets["head"] = buckets["tail"] = NONE
    return buckets
