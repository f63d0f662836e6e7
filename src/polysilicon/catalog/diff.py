"""What differs between two catalogs: offers that came and went, prices and facts that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from polysilicon.catalog.offers import PRICES, Offer, Price


class PriceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price that both tell, and not alike.

    Attributes:
        name: of the offer.
        region: where.
        price: which.
        from_usd_per_hour: in the first.
        to_usd_per_hour: in the second.
        change: fraction; 0.1 is a tenth dearer.
    """

    name: str
    region: str
    price: Price
    from_usd_per_hour: float
    to_usd_per_hour: float
    change: float


class FactChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something else than a price that differs; a price that only one tells is here, too."""

    name: str
    region: str
    fact: str
    before: str
    after: str


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer that only one of them has."""

    name: str
    region: str
    on_demand_usd_per_hour: float | None


class Diff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What differs.

    Attributes:
        clouds: those that both have; offers of others are not compared.
        compared: offers that both have.
        added: only in the second.
        removed: only in the first.
        prices: that changed, the largest relative change first.
        facts: that changed.
    """

    clouds: tuple[str, ...]
    compared: int
    added: tuple[Place, ...]
    removed: tuple[Place, ...]
    prices: tuple[PriceChange, ...]
    facts: tuple[FactChange, ...]


def diff(before: Iterable[Offer], after: Iterable[Offer]) -> Diff:
    """Compare two catalogs' offers by name and region.

    A table of one cloud says nothing of the others, so only clouds that both have are compared.
    """
    old = {(o.name, o.region): o for o in before}
    new = {(o.name, o.region): o for o in after}
    clouds = {o.cloud for o in old.values()} & {o.cloud for o in new.values()}
    both = [key for key in old if key in new]
    prices = [c for key in both for c in _prices(old[key], new[key])]
    facts = [c for key in both for c in _facts(old[key], new[key])]
    only_new = [o for key, o in new.items() if key not in old and o.cloud in clouds]
    only_old = [o for key, o in old.items() if key not in new and o.cloud in clouds]
    return Diff(
        clouds=tuple(sorted(clouds)),
        compared=len(both),
        added=_places(only_new),
        removed=_places(only_old),
        prices=tuple(sorted(prices, key=lambda c: (-abs(c.change), c.name, c.region, c.price))),
        facts=tuple(sorted(facts, key=lambda c: (c.name, c.region, c.fact))),
    )


def _prices(old: Offer, new: Offer) -> list[PriceChange]:
    """Return the prices that changed."""
    found = []
    for price in PRICES:
        was, now = old.price(price), new.price(price)
        if was is not None and now is not None and was != now:
            found.append(
                PriceChange(
                    name=new.name,
                    region=new.region,
                    price=price,
                    from_usd_per_hour=was,
                    to_usd_per_hour=now,
                    change=now / was - 1.0,
                )
            )
    return found


def _facts(old: Offer, new: Offer) -> list[FactChange]:
    """Return the facts that changed, and the prices that only one tells."""
    readers: dict[str, Callable[[Offer], object]] = {
        "processor": lambda o: None if o.processor is None else o.processor.name,
        "accelerators": lambda o: o.accelerators,
        "vcpus": lambda o: o.vcpus,
        "memory_bytes": lambda o: o.memory_bytes,
    }
    found = [
        FactChange(
            name=new.name,
            region=new.region,
            fact=fact,
            before=_words(read(old)),
            after=_words(read(new)),
        )
        for fact, read in readers.items()
        if read(old) != read(new)
    ]
    for price in PRICES:
        was, now = old.price(price), new.price(price)
        if (was is None) != (now is None):
            found.append(
                FactChange(
                    name=new.name,
                    region=new.region,
                    fact=f"{price} price",
                    before=_words(was),
                    after=_words(now),
                )
            )
    return found


def _words(value: object) -> str:
    """Return a fact in words; what is not known is blank."""
    return "" if value is None else str(value)


def _places(offers: Sequence[Offer]) -> tuple[Place, ...]:
    """Return offers by name and region."""
    return tuple(
        Place(name=o.name, region=o.region, on_demand_usd_per_hour=o.on_demand_usd_per_hour)
        for o in sorted(offers, key=lambda o: (o.name, o.region))
    )
