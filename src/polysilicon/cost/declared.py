"""Whether a machine is what it is said to be: its hardware and speed beside an offer's."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from polysilicon.catalog.chips.hardware import Hardware
from polysilicon.catalog.machine import isa_class_of
from polysilicon.catalog.offers import Offer
from polysilicon.cost.profile import CoreSpeed

_MEMORY_KEPT = 0.85
"""Kernel and firmware keep up to that much of small machines for themselves."""


class Mismatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way in which a machine is less than its offer, or other.

    Attributes:
        what: `chip`, `accelerators`, `cores`, `memory` or `core speed`.
        declared: by the offer.
        found: on the machine.
    """

    what: str
    declared: str
    found: str


def mismatches(offer: Offer, hardware: Hardware, speed: CoreSpeed | None) -> list[Mismatch]:
    """Return in what a machine is not as its offer says; what cannot be known is none.

    More cores or memory than the offer has are none, for they do no harm.

    Args:
        offer: that it is said to be of.
        hardware: what was found of it.
        speed: of its cores as measured; slower counts where all of its band is below the catalog's
            figure. None where it was not measured.
    """
    return [*_of_chip(offer, hardware), *_of_size(offer, hardware), *_of_speed(offer, speed)]


def _of_chip(offer: Offer, hardware: Hardware) -> Iterator[Mismatch]:
    declared = offer.processor
    if declared is None:
        return
    if declared.kind == "cpu":
        chip = hardware.cpu
        told = chip.processor or (chip.may_be and declared.name not in chip.may_be)
        other = bool(told) and declared.name != chip.processor
        if not other and isa_class_of(declared.isa) not in ("other", hardware.isa_class):
            # A hypervisor may hide wide instructions, and never shows any that are not there.
            other = "arm" in (hardware.isa_class, isa_class_of(declared.isa))
        if other:
            yield Mismatch(what="chip", declared=declared.name, found=chip.name)
        return
    chips = hardware.accelerators
    same = [chip for chip in chips if chip.processor == declared.name]
    unsure = [chip for chip in chips if not chip.processor and chip.kind == declared.kind]
    if not same and not unsure:
        found = ", ".join(chip.name for chip in chips) or "no accelerator"
        yield Mismatch(what="chip", declared=declared.name, found=found)
        return
    count = sum(chip.count for chip in same or unsure)
    if offer.accelerators is not None and count < offer.accelerators:
        yield Mismatch(what="accelerators", declared=str(offer.accelerators), found=str(count))


def _of_size(offer: Offer, hardware: Hardware) -> Iterator[Mismatch]:
    if offer.vcpus is not None and hardware.cores < offer.vcpus:
        yield Mismatch(what="cores", declared=str(offer.vcpus), found=str(hardware.cores))
    if offer.memory_bytes and hardware.memory_bytes < _MEMORY_KEPT * offer.memory_bytes:
        declared, found = (f"{n / 2**30:.1f} GiB" for n in (offer.memory_bytes,
                                                             hardware.memory_bytes))  # fmt: skip
        yield Mismatch(what="memory", declared=declared, found=found)


def _of_speed(offer: Offer, speed: CoreSpeed | None) -> Iterator[Mismatch]:
    chip = offer.processor
    if chip is None or chip.core_speed is None or speed is None:
        return
    relative, low, high = speed.relative, speed.relative_low, speed.relative_high
    if relative is not None and low is not None and high is not None and high < chip.core_speed:
        found = f"{relative:.2f} ({low:.2f} to {high:.2f})"
        yield Mismatch(what="core speed", declared=f"{chip.core_speed:.2f}", found=found)
