"""This machine: what it is, and which offer of the catalog says what it costs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.chips.cpu import core_of
from polysilicon.catalog.fleet import LOCAL
from polysilicon.catalog.offers import Offer
from polysilicon.errors import InputError

PRICE_VARIABLE = "POLYSILICON_LOCAL_USD_PER_HOUR"

NO_BF16 = "none"
# Flag of the system → unit, the widest first; names as in `bf16_units.csv`.
_BF16_UNITS = {"amx_bf16": "amx", "avx512_bf16": "avx512_bf16", "bf16": "bfmmla"}

IsaClass = Literal["arm", "x86-amx", "x86-avx512", "x86", "other"]

# Where the catalog prices no chip of a class, one of the next class stands in for it.
_STAND_INS: dict[IsaClass, tuple[IsaClass, ...]] = {
    "arm": ("arm",),
    "x86-amx": ("x86-amx",),
    "x86-avx512": ("x86-avx512",),
    "x86": ("x86", "x86-avx512"),
    "other": (),
}


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A computer as its system describes it.

    Attributes:
        cpu: model name, of Arm's the core; empty where the system does not tell.
        arch: as the kernel names it, such as `x86_64` or `aarch64`.
        cores: CPUs that this process may use.
        memory_bytes: of the machine.
        isa_flags: instruction set extensions, lower case.
    """

    cpu: str
    arch: str
    cores: int
    memory_bytes: int
    isa_flags: frozenset[str] = frozenset()

    @property
    def isa_class(self) -> IsaClass:
        """What kinds of code run fast here."""
        if self.arch.casefold() in ("aarch64", "arm64"):
            return "arm"
        if self.arch.casefold() not in ("x86_64", "amd64"):
            return "other"
        if any(flag.startswith("amx") for flag in self.isa_flags):
            return "x86-amx"
        return "x86-avx512" if "avx512f" in self.isa_flags else "x86"

    @property
    def bf16_unit(self) -> str:
        """What multiplies matrices in bfloat16 here, as `bf16_units.csv` names it; or `none`.

        A hypervisor or a kernel that holds a flag back is believed.
        """
        return next((u for flag, u in _BF16_UNITS.items() if flag in self.isa_flags), NO_BF16)


def detect(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Describe this machine.

    Args:
        cpuinfo: where Linux tells model name and flags; elsewhere they stay blank.
    """
    model, flags = "", ""
    text = cpuinfo.read_text("utf-8", errors="replace") if cpuinfo.is_file() else ""
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        model = model or (value if name == "model name" else "")
        flags = flags or (value if name in ("flags", "Features") else "")
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        cpu=model or core_of(text) or platform.processor(),
        arch=platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        memory_bytes=int(psutil.virtual_memory().total),
        isa_flags=frozenset(flags.casefold().split()),
    )


def isa_class_of(isa: str | None) -> IsaClass:
    """Return the class of a catalog processor's instruction set."""
    words = (isa or "").casefold()
    if words.startswith("arm"):
        return "arm"
    if not words.startswith("x86"):
        return "other"
    return "x86-amx" if "amx" in words else "x86-avx512" if "avx-512" in words else "x86"


def local_offer(
    catalog: Catalog, machine: Machine, environ: Mapping[str, str] = os.environ
) -> Offer:
    """Return the offer `local`: this machine, priced as a rented one like it.

    It is priced as the cheapest on-demand CPU offer whose processors have the same instruction set
    class and that has as many vCPUs, or else the next larger number; the price is that offer's as
    it is, never scaled. The offer keeps this machine's own cores and memory, and takes the
    processor (core speed, TDP) from the offer that it is priced as.

    Raises:
        InputError: no offer is like this machine and the environment variable is not set, or it
            is set to something that is no price.
    """
    own = environ.get(PRICE_VARIABLE, "").strip()
    like = _most_alike(catalog, machine)
    if own:
        usd, note = _own_price(own), f"priced by {PRICE_VARIABLE}, ${float(own):g}/h"
    elif like is not None:
        usd = like.usd_per_hour()
        note = f"priced as {like.name} in {like.region}, ${usd:g}/h"
        if like.vcpus != machine.cores:
            note += f" ({like.vcpus} vCPUs, here are {machine.cores})"
    else:
        what = f"no offer is like this machine ({machine.arch}, {machine.cores} cores)"
        raise InputError(what, mend=f"set {PRICE_VARIABLE} to what it costs")
    return Offer(
        name=LOCAL,
        region=LOCAL,
        kind="cpu",
        processor=like.processor if like is not None else None,
        vcpus=machine.cores,
        memory_bytes=machine.memory_bytes,
        on_demand_usd_per_hour=usd,
        date=like.date if like is not None and not own else "",
        source=like.source if like is not None and not own else PRICE_VARIABLE,
        note=note,
    )


def _own_price(own: str) -> float:
    """Read the price that the user gave."""
    try:
        usd = float(own)
    except ValueError:
        usd = -1.0
    if not 0 <= usd < float("inf"):
        raise InputError(f"{own!r} is no price", where=PRICE_VARIABLE, mend="give dollars an hour")
    return usd


def _most_alike(catalog: Catalog, machine: Machine) -> Offer | None:
    """Return the cheapest offer of the machine's class with as many vCPUs, or the next larger."""
    for isa_class in _STAND_INS[machine.isa_class]:
        fits = [
            (offer.vcpus, offer.on_demand_usd_per_hour, offer.name, offer.region, offer)
            for offer in catalog.offers
            if offer.kind == "cpu"
            and offer.processor is not None
            and offer.vcpus is not None
            and offer.on_demand_usd_per_hour is not None
            and offer.vcpus >= machine.cores
            and isa_class_of(offer.processor.isa) == isa_class
        ]
        if fits:
            return min(fits, key=lambda fit: fit[:4])[4]
    return None
