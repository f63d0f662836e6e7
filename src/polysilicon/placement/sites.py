"""Where a fleet may be: offers and regions, at the price that is the cheapest of those allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.machine import detect, local_offer
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.policy import Policy
from polysilicon.errors import InputError, nearest
from polysilicon.placement.eligible import Refused, Site

ALL = "all"


def offers_of(names: Sequence[str], catalog: Catalog, policy: Policy) -> list[Offer]:
    """Return the offers that are asked for, each region once.

    Args:
        names: names of offers, patterns of them, `all`, or `local`; none for those that the catalog
            compares by default.
        catalog: facts.
        policy: where offers of one name are alike but for their region, only the cheapest of each
            group that the rules of residency tell apart are taken, two where a region may fail.

    Raises:
        InputError: a name or a pattern that no offer has.
    """
    if not names:
        pairs = [(c.offer, c.region) for c in catalog.comparisons]
        pairs += [(c.companion, c.companion_region) for c in catalog.comparisons if c.companion]
        return [catalog.offer(name, region) for name, region in dict.fromkeys(pairs)]
    known = dict.fromkeys(offer.name for offer in catalog.offers)
    found: list[Offer] = []
    for name in dict.fromkeys(names):
        if name == LOCAL:
            found.append(local_offer(catalog, detect()))
            continue
        pattern = "*" if name == ALL else name
        hits = [one for one in known if fnmatchcase(one.casefold(), pattern.casefold())]
        if not hits:
            raise InputError(f"no offer is named {name!r}", mend=nearest(name, known))
        for hit in hits:
            found += _regions(catalog.offers_named(hit), policy)
    return list({(offer.name, offer.region): offer for offer in found}.values())


def _regions(offers: Sequence[Offer], policy: Policy) -> list[Offer]:
    """Return the cheapest regions of an offer among those that residency treats alike."""
    groups: dict[tuple[bool, ...], list[tuple[float, str, Offer]]] = {}
    for offer in offers:
        cost = price_of(offer, policy)
        if cost is None:
            continue
        key = tuple(policy.resident(rule.data_class, offer.region) for rule in policy.residency)
        groups.setdefault(key, []).append((cost[1], offer.region, offer))
    if not groups:  # it is refused with the reason, and not forgotten
        return list(offers)[:1]
    kept = 2 if policy.redundancy is not None else 1
    return [offer for group in groups.values() for _, _, offer in sorted(group)[:kept]]


def prices_of(offer: Offer, policy: Policy) -> list[tuple[str, float]]:
    """Return the prices that an offer may be had at: the cheapest, and beside spot another one.

    Where the policy tells how often spot machines are taken away, others may be cheaper in the end.
    """
    best = price_of(offer, policy)
    if best is None:
        return []
    lasting = tuple(price for price in policy.prices if price != "spot")
    other = price_of(offer, msgspec.structs.replace(policy, prices=lasting))
    if best[0] != "spot" or policy.spot is None or other is None:
        return [best]
    return [best, other]


def price_of(offer: Offer, policy: Policy) -> tuple[str, float] | None:
    """Return the cheapest allowed price of an offer and its kind; None where none is known."""
    known = [(offer.price(price), price) for price in policy.prices]
    told = [(usd, price) for usd, price in known if usd is not None]
    return None if not told else (min(told)[1], min(told)[0])


def sites_of(offers: Sequence[Offer], policy: Policy) -> tuple[list[Site], list[Refused]]:
    """Return the offers with a price, and why the others are refused."""
    sites: list[Site] = []
    missing: Counter[str] = Counter()
    first: dict[str, str] = {}
    for offer in offers:
        found = prices_of(offer, policy)
        reason = f"no {' or '.join(policy.prices)} price is known"
        if not found:
            missing[reason] += 1
            first.setdefault(reason, offer.name)
        elif policy.supply_max.get(offer.name, 1) > 0:
            for price, usd in found:
                sites.append(Site(offer=offer, price=price, usd_per_hour=usd))  # type: ignore[arg-type]
        else:
            missing["the policy allows no unit"] += 1
            first.setdefault("the policy allows no unit", offer.name)
    return sites, [
        Refused(offer=first[reason], what="all", reason=reason, count=count)
        for reason, count in missing.items()
    ]


def check_names(policy: Policy, catalog: Catalog, agents: Iterable[str]) -> None:
    """Raise `InputError` where a policy names what is not there.

    Args:
        policy: what is allowed and wanted.
        catalog: facts.
        agents: of the workload.
    """
    offers = {offer.name for offer in catalog.offers} | {LOCAL}
    for name in policy.supply_max:
        if name not in offers:
            raise InputError(
                f"unknown offer {name!r}", where="supply_max", mend=nearest(name, offers)
            )
    clouds = {name.partition("/")[0] for name in offers}
    for name in policy.vendor_share_max:
        if name not in clouds:
            mend = nearest(name, clouds) or f"known: {', '.join(sorted(clouds))}"
            raise InputError(f"unknown vendor {name!r}", where="vendor_share_max", mend=mend)
    regions = {offer.region for offer in catalog.offers} | {LOCAL}
    for rule in policy.residency:
        for pattern in rule.regions:
            if not any(fnmatchcase(region, pattern) for region in regions):
                where = f"residency, {rule.data_class}"
                mend = nearest(pattern, regions)
                raise InputError(f"no region is {pattern!r}", where=where, mend=mend)
    names = set(agents)
    for slo in policy.slo:
        if slo.agent not in names:
            mend = nearest(slo.agent, names) or f"known: {', '.join(sorted(names))}"
            raise InputError(f"no task is of agent {slo.agent!r}", where="slo", mend=mend)
