"""Dollars: machine-seconds times price, divided by what shares the machine."""

from __future__ import annotations

from polysilicon.catalog.offers import Offer, Price
from polysilicon.errors import NoBasisError
from polysilicon.units import SECONDS_PER_HOUR


def usd_per_s(offer: Offer, price: Price = "on-demand") -> float:
    """Return dollars for one second of the whole machine.

    Raises:
        NoBasisError: the price is not known.
    """
    found = offer.price(price)
    if found is None:
        raise NoBasisError(f"no {price} price of {offer.name} in {offer.region} is known")
    return found / SECONDS_PER_HOUR


def share_usd(offer: Offer, cpu_s: float, price: Price = "on-demand") -> float:
    """Return dollars of core-seconds: their share of the machine's vCPUs.

    Args:
        offer: the machine.
        cpu_s: core-seconds, one core being one vCPU.
        price: which of the offer's prices holds.

    Raises:
        NoBasisError: the price or the number of vCPUs is not known.
    """
    if offer.vcpus is None:
        raise NoBasisError(f"how many vCPUs {offer.name} has is not known")
    return usd_per_s(offer, price) * cpu_s / offer.vcpus


def scarcer_usd(offer: Offer, cpu_s: float, service_s: float, memory_bytes: int | None) -> float:
    """Return dollars of a step by the resource of which it takes the larger share.

    A step that waits uses no core but keeps its memory, so memory counts for the whole service
    time, and cores only for the core-seconds.

    Raises:
        NoBasisError: the price or the number of vCPUs is not known.
    """
    by_cores = share_usd(offer, cpu_s)
    if memory_bytes is None or offer.memory_bytes is None:
        return by_cores
    return max(by_cores, usd_per_s(offer) * service_s * memory_bytes / offer.memory_bytes)
