"""Joules from thermal design power: an upper estimate, and None where a fact is missing."""

from __future__ import annotations

from polysilicon.catalog.offers import Offer


def share_joules(offer: Offer, cpu_s: float) -> float | None:
    """Return joules of core-seconds: their share of the processor's TDP.

    The processor is taken to draw its TDP when all of its vCPUs are busy, spread evenly over them.
    Memory, fans and the idle rest of the machine are not counted.

    Args:
        offer: a CPU offer.
        cpu_s: core-seconds, one core being one vCPU.
    """
    chip = offer.processor
    if chip is None or chip.kind != "cpu":
        return None
    if chip.tdp_w is None or chip.cores is None or chip.vcpus_per_core is None:
        return None
    return chip.tdp_w * cpu_s / (chip.cores * chip.vcpus_per_core)


def machine_joules(offer: Offer, service_s: float, share: float) -> float | None:
    """Return joules of a part of the whole machine's processors over some seconds.

    Args:
        offer: any offer; of accelerator offers the host is not counted.
        service_s: how long.
        share: part of the machine, from 0 to 1.
    """
    chip = offer.processor
    if chip is None:
        return None
    if chip.kind == "cpu":
        return None if offer.vcpus is None else share_joules(offer, offer.vcpus * service_s * share)
    if chip.tdp_w is None or offer.accelerators is None:
        return None
    return chip.tdp_w * offer.accelerators * service_s * share
