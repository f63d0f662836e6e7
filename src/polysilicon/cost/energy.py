"""Joules by utilisation: what a machine draws when idle, and what work adds. Estimates, with bands.

Law: power(u) = idle + (full - idle)·u^x at utilisation u. Full and idle power are shares of the
processors' TDP, measured on whole servers, so memory, fans and supplies are in them, and of
accelerator servers the host. A step answers for its share of the idle power while it holds that
share, and for what it adds above idle. With a missing fact there is no estimate: None.

Source: measured shares and exponent in `data/energy.csv`. The building's overhead (PUE) is not in
joules; `carbon.py` adds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from polysilicon.catalog.offers import Offer
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.constants import read_constants
from polysilicon.errors import InputError


class Watts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Power of an offer's machine; of a virtual machine its part of the server.

    Attributes:
        idle_w: nothing runs.
        full_w: everything is busy.
        idle_low_w: lower end of the band.
        idle_high_w: upper end.
        full_low_w: lower end.
        full_high_w: upper end.
        exponent: of utilisation, for the power above idle.
    """

    idle_w: float
    full_w: float
    idle_low_w: float
    idle_high_w: float
    full_low_w: float
    full_high_w: float
    exponent: float

    def at(self, utilisation: float) -> float:
        """Return power at a utilisation.

        Args:
            utilisation: from 0 to 1; above counts as 1.

        Raises:
            InputError: it is negative.
        """
        if utilisation < 0:
            raise InputError(f"utilisation is {utilisation:g}", mend="it is 0 or more")
        risen: float = min(utilisation, 1.0) ** self.exponent
        return self.idle_w + (self.full_w - self.idle_w) * risen


class Joules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy of a step: best estimate and band."""

    best_j: float
    low_j: float
    high_j: float


@lru_cache(maxsize=1)
def energy_constants() -> Mapping[str, Mapping[str, float]]:
    """Return the constants of power; they are read once."""
    return read_constants(data_folder("polysilicon.cost") / "energy.csv")


def watts_per_unit(offer: Offer) -> Watts | None:
    """Return the power of one vCPU, or of one accelerator with its part of the host.

    Args:
        offer: any.

    Returns:
        None where the TDP or the number of threads of the processor is not known.
    """
    chip = offer.processor
    if chip is None or chip.tdp_w is None:
        return None
    units = 1.0
    if chip.kind == "cpu":
        if chip.cores is None or chip.vcpus_per_core is None:
            return None
        units = float(chip.cores * chip.vcpus_per_core)
    shares = energy_constants()["cpu" if chip.kind == "cpu" else "accelerator"]
    unit_w = chip.tdp_w / units
    full_w = unit_w * shares["full_share"]
    return Watts(
        idle_w=full_w * shares["idle_share"],
        full_w=full_w,
        idle_low_w=unit_w * shares["full_low"] * shares["idle_low"],
        idle_high_w=unit_w * shares["full_high"] * shares["idle_high"],
        full_low_w=unit_w * shares["full_low"],
        full_high_w=unit_w * shares["full_high"],
        exponent=shares["exponent"],
    )


def units(offer: Offer) -> int | None:
    """Return vCPUs of a CPU offer, accelerators of another; None where not known."""
    return offer.vcpus if offer.kind == "cpu" else offer.accelerators


def watts(offer: Offer) -> Watts | None:
    """Return the power of an offer's machine; None where a fact is missing."""
    one, number = watts_per_unit(offer), units(offer)
    if one is None or number is None:
        return None
    scaled = {name: getattr(one, name) * number for name in one.__struct_fields__}
    return Watts(**(scaled | {"exponent": one.exponent}))


def joules(
    offer: Offer,
    *,
    busy_s: float,
    wall_s: float,
    share: float,
    utilisation: float = 1.0,
) -> Joules | None:
    """Return the energy of a step.

    What the step adds above idle depends on how busy the machine is, for the power curve is not
    straight: it is the step's part of what all work adds.

    Args:
        offer: the machine.
        busy_s: vCPU-seconds on a CPU offer, accelerator-seconds on another.
        wall_s: how long the step holds its share.
        share: of the machine, from 0 to 1.
        utilisation: of the machine while the step runs, from 0 to 1; the step's own work included.

    Returns:
        None where a fact is missing.

    Raises:
        InputError: a negative time or share, or no utilisation though something is busy.
    """
    if min(busy_s, wall_s, share) < 0 or share > 1:
        raise InputError("seconds are 0 or more, and a share of a machine is from 0 to 1")
    if busy_s > 0 and utilisation <= 0:
        raise InputError("utilisation is 0 though the step is busy")
    machine, number = watts(offer), units(offer)
    if machine is None or number is None:
        return None
    load = min(utilisation, 1.0) if busy_s > 0 else 1.0
    work_s = busy_s / number * load ** (machine.exponent - 1.0)
    hold_s = share * wall_s
    low_w, high_w = machine.full_low_w, machine.full_high_w
    return Joules(
        best_j=machine.idle_w * hold_s + (machine.full_w - machine.idle_w) * work_s,
        low_j=machine.idle_low_w * hold_s + (low_w - machine.idle_low_w) * work_s,
        high_j=machine.idle_high_w * hold_s + (high_w - machine.idle_high_w) * work_s,
    )


def share_joules(offer: Offer, cpu_s: float) -> float | None:
    """Return joules of vCPU-seconds on a busy machine: their part of its full power.

    Args:
        offer: a CPU offer.
        cpu_s: vCPU-seconds.

    Returns:
        None where a fact is missing, or the offer is no CPU offer.
    """
    chip = offer.processor
    one = watts_per_unit(offer)
    if chip is None or chip.kind != "cpu" or one is None:
        return None
    return one.full_w * cpu_s


def machine_joules(offer: Offer, service_s: float, share: float) -> float | None:
    """Return joules of a busy part of the whole machine over some seconds.

    Args:
        offer: any.
        service_s: how long.
        share: part of the machine, from 0 to 1.

    Returns:
        None where a fact is missing.
    """
    machine = watts(offer)
    return None if machine is None else machine.full_w * service_s * share
