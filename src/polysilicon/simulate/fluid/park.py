"""A fleet as the fluid mode sees it: pools, laws and routes as arrays, no machine by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from polysilicon import schedule
from polysilicon.catalog.fleet import Link
from polysilicon.catalog.policy import Policy
from polysilicon.schedule.types import Codes, Floats
from polysilicon.simulate.fleet import laws_of, pools_of, rates_of, routes_of
from polysilicon.simulate.machines import Machines
from polysilicon.simulate.program import Route


class Park(NamedTuple):
    """A fleet; records are those of `state`.

    Attributes:
        pools: (pools,).
        routes: what pools make of steps; (routes, pools).
        engine: routes of LLM steps; (routes,).
        engines: how many engines each pool has that are up; (pools,).
        threads: that are up, on average; (pools,).
        alone: work of a thread in a second, by threads; (pools, points).
        beside: the same while all engines of the machines compute.
        slower: factor on iterations, by threads.
        laws: of engines; (pools,).
        prefill: seconds of an iteration by prompt tokens; (pools, points).
        decode: by sequences; (pools, slots + 1).
        hazard: failures of a machine in a second; (pools,).
        usd: of a second of a thread and of an engine; (2, pools).
        price: what the scheduler counts for these, NaN where that is what they cost; (2, pools).
        vendor: code of each pool's; (pools,).
        most_share: of all dollars, by vendor.
        late_usd_per_s: of a step without a deadline and of one with.
        latency: only latency counts.
    """

    pools: Any
    routes: Any
    engine: Any
    engines: Floats
    threads: Floats
    alone: Floats
    beside: Floats
    slower: Floats
    laws: Any
    prefill: Floats
    decode: Any
    hazard: Floats
    usd: Floats
    price: Floats
    vendor: Codes
    most_share: Floats
    late_usd_per_s: tuple[float, float]
    latency: bool


def park_of(
    fleet: Sequence[Machines], routes: Sequence[Route], policy: Policy, links: Sequence[Link]
) -> Park:
    """Return a fleet as arrays.

    Args:
        fleet: machines of each pool.
        routes: of all steps that will come.
        policy: what is wanted.
        links: delays between regions.
    """
    pools = pools_of(fleet, policy)
    laws, prefill, decode = laws_of(fleet)
    alone, beside, slower = rates_of(fleet, pools["step"])
    hazard = 1.0 / pools["failure_s"]
    up = 1.0 / (1.0 + hazard * pools["repair_s"])
    vendors = list(dict.fromkeys(m.offer.cloud for m in fleet))
    return Park(
        pools=pools,
        routes=routes_of(fleet, routes, links),
        engine=np.array([route.kind == "llm" for route in routes], np.bool_),
        engines=(pools["last"] - pools["first"]) * up,
        threads=pools["whole"] * up,
        alone=alone,
        beside=beside,
        slower=slower,
        laws=laws,
        prefill=prefill,
        decode=decode,
        hazard=hazard,
        usd=np.stack([pools["thread_usd_per_s"], pools["engine_usd_per_s"]]),
        price=np.stack([pools["thread_price"], pools["slot_price"]]),
        vendor=np.array([vendors.index(m.offer.cloud) for m in fleet], np.int64),
        most_share=np.array([policy.vendor_share_max.get(v, 1.0) for v in vendors]),
        late_usd_per_s=(schedule.LATE_USD_PER_S, schedule.SLO_LATE_USD_PER_S),
        latency=policy.objective == "latency",
    )
