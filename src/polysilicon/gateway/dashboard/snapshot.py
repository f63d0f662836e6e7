"""What a gateway is like now, as the record that the pages are made of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from polysilicon import catalog, units
from polysilicon.catalog.fleet import LOCAL, OwnPrice
from polysilicon.catalog.offers import Offer
from polysilicon.errors import InputError
from polysilicon.gateway.access import Caller
from polysilicon.gateway.dashboard.records import (
    Budget,
    Health,
    PoolNow,
    Room,
    Snapshot,
)
from polysilicon.gateway.dashboard.watch import Watch
from polysilicon.gateway.totals import Sums, Totals
from polysilicon.runtime.pools import RunningPool
from polysilicon.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from polysilicon.gateway.state import Gateway

MOST_TASKS = 50
"""Tasks under way, and tasks that ended, that the page of tasks shows."""

_PRICES = {"1y": "reserved for a year", "3y": "reserved for three years"}
_BY = ("agent", "kind", "model or name", "pool")


def snapshot(gateway: Gateway, watch: Watch, reader: Caller, version: str) -> Snapshot:
    """Return what a gateway is like now.

    Args:
        gateway: its state.
        watch: what was seen of it.
        reader: who looks.
        version: of Polysilicon.
    """
    watch.look()
    books = grouped(gateway.totals)
    pools = tuple(
        _pool(pool, books["pool"].get(pool.name), watch.spent_usd(pool.name), gateway)
        for pool in gateway.machine.pools
    )
    tasks, left_out = watch.tasks(MOST_TASKS)
    now_s = gateway.clock()
    budgets = tuple(_budget(caller) for caller in gateway.access.callers)
    return Snapshot(
        now_s=now_s,
        up_s=now_s - watch.begin_s,
        month=datetime.now(UTC).strftime("%Y-%m"),
        version=version,
        draining=gateway.draining,
        troubles=tuple(_troubles(gateway, pools, budgets)),
        pools=pools,
        tasks=tuple(tasks),
        tasks_left_out=left_out,
        missed=watch.missed,
        running=sum(room.running for pool in pools for room in pool.rooms),
        sums=gateway.totals.all if gateway.totals.all.steps else None,
        books=books,
        spending=watch.spending(),
        budgets=budgets if not gateway.access.open else (),
        keyed=not gateway.access.open,
        reader="" if gateway.access.open else reader.name,
    )


def grouped(totals: Totals) -> dict[str, dict[str, Sums]]:
    """Return the ledger so far by each of what its groups are made of."""
    books: dict[str, dict[str, Sums]] = {name: {} for name in _BY}
    for group, sums in totals.by_group.items():
        for name, value in zip(_BY, group, strict=True):
            books[name].setdefault(value or "(none)", Sums()).include(sums)
    return books


def _pool(pool: RunningPool, used: Sums | None, spent_usd: float, gateway: Gateway) -> PoolNow:
    """Return a pool as it is now."""
    engine = pool.gates.get("engine")
    health: Health = "up"
    if engine is not None and engine.health.failures:
        health = "drained" if engine.health.drained else "failing"
    return PoolNow(
        name=pool.name,
        offer=pool.offer_name,
        region=pool.region,
        units=pool.units,
        serves=pool.as_given.serves,
        model=None if pool.engine is None else pool.engine.model,
        usd_per_hour=pool.usd_per_s * SECONDS_PER_HOUR,
        price=_price_words(pool, gateway.machine.priced_as),
        committed=pool.as_given.price in _PRICES,
        rooms=tuple(
            Room(
                resource=name,
                running=gate.running,
                waiting=gate.waiting,
                cap=gate.cap,
                mean_s=gate.mean_s,
            )
            for name, gate in pool.gates.items()
        ),
        health=health,
        failures=0 if engine is None else engine.health.failures,
        used=used,
        spent_usd=spent_usd,
    )


def _price_words(pool: RunningPool, local_price: str) -> str:
    """Return which price holds for a pool, and where it is from."""
    price = pool.as_given.price
    if pool.offer_name == LOCAL:
        return local_price
    if isinstance(price, OwnPrice):
        return "as the fleet file says"
    dated = f", prices of {offer.date}" if (offer := _offer(pool)) and offer.date else ""
    return f"{_PRICES.get(price, price)}{dated}"


def _offer(pool: RunningPool) -> Offer | None:
    """Return the catalog's offer of a pool; None where a catalog laid over it has none now."""
    try:
        return catalog.load().offer(pool.offer_name, pool.as_given.region or None)
    except InputError:
        return None


def _budget(caller: Caller) -> Budget:
    """Return what a key has spent."""
    limit = caller.key.budget_usd
    left = caller.left_usd  # first, for it begins a new period where one has begun
    spent = caller.all_usd if limit is None else limit - left
    window = caller.key.period if caller.period in {"", "total"} else caller.period
    return Budget(key=caller.name, spent_usd=spent, limit_usd=limit, window=window)


def _troubles(
    gateway: Gateway, pools: tuple[PoolNow, ...], budgets: tuple[Budget, ...]
) -> Iterator[str]:
    """Yield what a person should see first."""
    if gateway.runner.fatal is not None:
        yield f"Nothing more is run: {gateway.runner.fatal}"
    for pool in pools:
        if pool.health == "drained":
            yield (
                f"Pool {pool.name}: its engine failed {pool.failures:,} times in a row and gets no "
                "steps; one is tried now and then, and the first that goes well brings it back."
            )
    for budget in budgets:
        limit = budget.limit_usd
        if limit is not None and budget.spent_usd >= limit:
            spent = f"{units.usd(limit)} for {budget.window}"
            yield f"The budget of key {budget.key} is spent ({spent}): its calls are refused."
    if gateway.audit.lost:
        yield f"{gateway.audit.lost:,} lines of the audit log could not be written."
