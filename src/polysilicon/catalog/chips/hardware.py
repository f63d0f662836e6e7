"""What a machine is: its cloud, its CPU, its accelerators, and the offer that it may be of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.chips.cpu import cpu_of
from polysilicon.catalog.chips.devices import accelerators_of
from polysilicon.catalog.chips.found import Chip, Count, Text
from polysilicon.catalog.chips.tree import word_at
from polysilicon.catalog.machine import Machine, detect

_VENDORS = (
    ("amazon", "aws"),
    ("google", "gcp"),
    ("oracle", "oracle"),
    ("alibaba", "alibaba"),
    ("nvidia", "nvidia"),
    ("hetzner", "hcloud"),
    ("vultr", "vultr"),
    ("digitalocean", "digitalocean"),
    ("upcloud", "upcloud"),
    ("ovh", "ovh"),
)
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""Chassis asset tag of Azure's virtual machines, by which cloud-init tells them, too."""
_VIRTUAL = ("qemu", "xen", "bochs", "kvm", "vmware", "microsoft corporation", "innotek")
_NAME_LIMIT = 64


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine is.

    Attributes:
        place: the cloud that it is of, `nvidia` for a machine around NVIDIA's own CPU, `own` for
            another maker's; blank where nothing tells, as in most virtual machines.
        instance: its type in the cloud; blank where it does not tell.
        cpu: its CPU.
        accelerators: its accelerators, by kind.
        arch: as the kernel names it.
        isa_class: what kinds of code run fast on its CPU.
        cores: CPUs that this process may use.
        memory_bytes: of the machine.
    """

    place: Text = ""
    instance: Text = ""
    cpu: Chip
    accelerators: tuple[Chip, ...] = ()
    arch: Text
    isa_class: Text
    cores: Count
    memory_bytes: Count

    @property
    def processor(self) -> Chip:
        """What the machine would be rented for: its accelerators, else its CPU."""
        return self.accelerators[0] if self.accelerators else self.cpu


def hardware_of(
    catalog: Catalog,
    root: Path = Path("/"),
    machine: Machine | None = None,
    nvml: Any = None,
) -> Hardware:
    """Describe a machine by the files of its kernel.

    Args:
        catalog: whose names of processors are given.
        root: folder of `proc`, `sys` and `dev`.
        machine: cores and memory; those of this one by default.
        nvml: module of NVML's bindings; None where there is none.
    """
    told = machine or detect()
    place, instance = _place(root / "sys/class/dmi/id")
    accelerators = accelerators_of(root, catalog, instance, nvml)
    superchip = any(chip.chip.startswith(("NVIDIA GH", "NVIDIA GB")) for chip in accelerators)
    return Hardware(
        place=place,
        instance=instance,
        cpu=cpu_of(root, "nvidia" if superchip else place),
        accelerators=tuple(accelerators),
        arch=told.arch,
        isa_class=told.isa_class,
        cores=told.cores,
        memory_bytes=told.memory_bytes,
    )


def offer_of(hardware: Hardware, catalog: Catalog) -> str:
    """Return the offer that a machine says it is of; blank where it does not, or none is known."""
    name = f"{hardware.place}/{hardware.instance}"
    return name if hardware.instance and catalog.offers_named(name) else ""


def _place(dmi: Path) -> tuple[str, str]:
    """Return where a machine is, and its type there, by what its firmware says."""
    vendor, product, board, tag = (
        word_at(dmi / name)[:_NAME_LIMIT]
        for name in ("sys_vendor", "product_name", "board_vendor", "chassis_asset_tag")
    )
    if tag == _AZURE_TAG:
        return "azure", ""
    words = f"{vendor} {board} {tag}".casefold()
    for word, place in _VENDORS:
        if word in words:
            return place, product if place == "aws" else ""
    if not vendor or any(word in words for word in _VIRTUAL):
        return "", ""
    return "own", ""
