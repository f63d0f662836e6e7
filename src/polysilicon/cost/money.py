"""Dollars: machine-seconds times price, divided by what shares the machine.

A price is one of the offer's, or what the user states, or the cost of owning the machine. A step
pays for the resource of which it takes the larger share: cores, memory or accelerators.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from polysilicon.catalog.fleet import OwnPrice
from polysilicon.catalog.offers import Offer, Price
from polysilicon.catalog.owned import Owned
from polysilicon.errors import InputError, NoBasisError
from polysilicon.units import SECONDS_PER_HOUR


class Interruption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What spot machines lose when they are taken away.

    Attributes:
        per_hour: interruptions of one machine an hour.
        lost_s: work lost by each, on average: since the last journaled step or checkpoint.
        restart_s: until a machine in its place serves again.
    """

    per_hour: float
    lost_s: float = 0.0
    restart_s: float = 0.0


Numbers = npt.NDArray[np.float64]
Values = Numbers | float

AnyPrice = Price | Owned | OwnPrice
"""Which price holds: one of the offer's, of an owned machine, or what the user states."""


def usd_per_s(offer: Offer, price: AnyPrice = "on-demand") -> float:
    """Return dollars for one second of the whole machine.

    Raises:
        NoBasisError: the price is not known.
    """
    if isinstance(price, Owned):
        return price.usd_per_hour() / SECONDS_PER_HOUR
    if isinstance(price, OwnPrice):
        return price.usd_per_hour / SECONDS_PER_HOUR
    found = offer.price(price)
    if found is None:
        raise NoBasisError(f"no {price} price of {offer.name} in {offer.region} is known")
    return found / SECONDS_PER_HOUR


def rework(interruption: Interruption) -> float:
    """Return seconds that are paid for each second of useful work, 1 or more.

    An hour holds `per_hour` interruptions, each of which costs `lost_s + restart_s`; what is left
    is useful.

    Raises:
        InputError: negative figures, or nothing is left.
    """
    lost = interruption.per_hour * (interruption.lost_s + interruption.restart_s)
    if min(interruption.per_hour, interruption.lost_s, interruption.restart_s) < 0:
        raise InputError("interruptions and what they cost must not be negative")
    useful = 1.0 - lost / SECONDS_PER_HOUR
    if useful <= 0:
        mend = "the machine is taken away before it has done anything"
        raise InputError(f"{interruption.per_hour:g} interruptions an hour", mend=mend)
    return 1.0 / useful


def spot_usd_per_s(offer: Offer, interruption: Interruption) -> float:
    """Return dollars for one second of useful work at the spot price, lost work included.

    Raises:
        NoBasisError: the spot price is not known.
        InputError: as `rework`.
    """
    return usd_per_s(offer, "spot") * rework(interruption)


def share_usd(offer: Offer, cpu_s: float, price: AnyPrice = "on-demand") -> float:
    """Return dollars of core-seconds: their share of the machine's vCPUs.

    Args:
        offer: the machine.
        cpu_s: core-seconds, one core being one vCPU.
        price: which price holds.

    Raises:
        NoBasisError: the price or the number of vCPUs is not known.
    """
    if offer.vcpus is None:
        raise NoBasisError(f"how many vCPUs {offer.name} has is not known")
    return usd_per_s(offer, price) * cpu_s / offer.vcpus


def scarcer_s(offer: Offer, cores_s: Values, service_s: Values, memory_bytes: Values) -> Numbers:
    """Return machine-seconds by cores or memory, whichever a step takes more of, elementwise.

    A step that waits uses no core but keeps its memory, so memory counts for the whole time.

    Args:
        offer: the machine.
        cores_s: vCPU-seconds over the machine's vCPUs; where not a number, so is the result.
        service_s: from the step's start to its end.
        memory_bytes: that it keeps meanwhile.
    """
    by_cores = np.asarray(cores_s, dtype=np.float64)
    if offer.memory_bytes is None:
        return by_cores
    by_memory = np.asarray(service_s) * memory_bytes / offer.memory_bytes
    return np.asarray(np.maximum(by_cores, by_memory), dtype=np.float64)


def scarcer_usd(
    offer: Offer,
    cpu_s: float,
    service_s: float,
    memory_bytes: int | None,
    *,
    accelerator_s: float = 0.0,
    price: AnyPrice = "on-demand",
) -> float:
    """Return dollars of a step by the resource of which it takes the largest share.

    A step that waits uses no core but keeps its memory, so memory counts for the whole service
    time, and cores and accelerators only for the seconds in which it has them.

    Args:
        offer: the machine.
        cpu_s: vCPU-seconds that the step occupies.
        service_s: from its start to its end.
        memory_bytes: that it keeps meanwhile; None counts as none.
        accelerator_s: accelerator-seconds.
        price: which price holds.

    Raises:
        NoBasisError: the price, or the size of what the step uses, is not known.
    """
    if offer.vcpus is None and accelerator_s == 0:
        raise NoBasisError(f"how many vCPUs {offer.name} has is not known")
    cores_s = 0.0 if offer.vcpus is None else cpu_s / offer.vcpus
    shares_s = [float(scarcer_s(offer, cores_s, service_s, memory_bytes or 0.0))]
    if accelerator_s:
        if offer.accelerators is None:
            raise NoBasisError(f"how many accelerators {offer.name} has is not known")
        shares_s.append(accelerator_s / offer.accelerators)
    return usd_per_s(offer, price) * max(shares_s)
