"""Which processors an imported row has: by the catalog where it knows the name, else by the row."""

from __future__ import annotations

import re

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.imports.vms import Vm
from polysilicon.catalog.machine import isa_class_of
from polysilicon.catalog.offers import Offer
from polysilicon.catalog.processors import Processor
from polysilicon.errors import nearest

# Memory that differs by more than this is another version of the chip.
_OTHER_MEMORY = 0.25
# TPU slices of these versions are named by cores, two to a chip; later ones by chips.
_NAMED_BY_CORES = ("v2", "v3", "v4", "v5p")

_TPU = re.compile(r"tpu-(v\d\w*?)(?:litepod)?-(\d+)")
_LITE = re.compile(r"tpu-v5litepod-(\d+)")
_SIZE = re.compile(r"\d+")


class Chips(msgspec.Struct, frozen=True, kw_only=True):
    """What a row has; `unknown` says why it cannot be told, and is blank where it can.

    Attributes:
        processor: None of CPU offers whose chip nobody tells.
        count: accelerators; None of CPU offers and of shared accelerators.
        note: what else to know.
        differs: where the row says something else than the catalog, which holds.
        unknown: why it cannot be told.
    """

    processor: Processor | None = None
    count: int | None = None
    note: str = ""
    differs: str = ""
    unknown: str = ""


def chips_of(vm: Vm, name: str, catalog: Catalog) -> Chips:
    """Return the processors of a row.

    Args:
        vm: the row.
        name: of the offer.
        catalog: whose offer of that name holds, where it has one.
    """
    known = catalog.offers_named(name)
    if known and known[0].processor is not None:
        return _as_known(vm, known[0], catalog)
    if vm.accelerator:
        return _accelerator(vm, catalog)
    sibling = _of_siblings(name, vm.arch, catalog)
    if sibling is None:
        return Chips()
    return Chips(processor=sibling, note="processor as of its other sizes")


def tpu_slice(accelerator: str, catalog: Catalog) -> Chips:
    """Return the chips of a TPU slice such as `tpu-v6e-16`; slices are whole machines.

    Source of what the number counts: cloud.google.com/tpu/docs, the page of each version.
    """
    lite = _LITE.fullmatch(accelerator)
    match = _TPU.fullmatch(accelerator)
    if lite is None and match is None:
        return Chips(unknown=f"unknown accelerator {accelerator!r}")
    version, size = ("v5e", lite[1]) if lite else (match[1], match[2]) if match else ("", "")
    name = catalog.aliases.processor_name(f"tpu-{version}", catalog.processors)
    if name is None:
        return Chips(unknown=f"unknown accelerator 'TPU {version}'")
    count = int(size) // 2 if version in _NAMED_BY_CORES else int(size)
    if count < 1:
        return Chips(unknown=f"{accelerator!r} is less than a chip")
    return Chips(processor=catalog.processors[name], count=count, note=f"slice of {count} chips")


def named_chip(accelerator: str, catalog: Catalog) -> Processor | None:
    """Return the accelerator of a name; None where it is not known, or is a CPU's."""
    name = catalog.aliases.processor_name(accelerator, catalog.processors)
    chip = catalog.processors[name] if name is not None else None
    return chip if chip is not None and chip.kind != "cpu" else None


def family(name: str) -> str:
    """Return an offer's name without its size: `aws/c6g`, `gcp/c4a`, `azure/Standard_Dps_v6`."""
    cloud, _, instance = name.partition("/")
    if cloud == "azure":
        return f"{cloud}/{_SIZE.sub('', instance, count=1)}"
    return f"{cloud}/{re.split('[.-]', instance)[0]}"


def _as_known(vm: Vm, known: Offer, catalog: Catalog) -> Chips:
    """Return what the catalog says, and where the row says otherwise."""
    assert known.processor is not None
    differs = ""
    if vm.accelerator and known.kind != "cpu":
        chip = named_chip(vm.accelerator, catalog)
        other_count = known.accelerators is not None and vm.count not in (None, known.accelerators)
        if other_count or (chip is not None and _base(chip.name) != _base(known.processor.name)):
            differs = (
                f"{known.name} has {vm.count or 0:g} x {vm.accelerator} in the file and "
                f"{known.accelerators} x {known.processor.name} in the catalog: the catalog holds"
            )
    return Chips(processor=known.processor, count=known.accelerators, differs=differs)


def _accelerator(vm: Vm, catalog: Catalog) -> Chips:
    """Return the accelerators that a row names."""
    name = vm.accelerator
    if "pcie" in vm.instance.casefold() and "pcie" not in name.casefold():
        name = f"{name}-PCIe"
    chip = named_chip(name, catalog)
    if chip is not None and vm.gpu_memory_gib is not None and chip.memory_gb is not None:
        gib = vm.gpu_memory_gib
        if abs(gib / chip.memory_gb - 1.0) > _OTHER_MEMORY:
            chip = named_chip(f"{name}-{gib:.0f}GB", catalog)
            name = f"{name} of {gib:.0f} GiB"
    if chip is None:
        mend = nearest(name, _accelerator_names(catalog))
        return Chips(unknown=f"unknown accelerator {name!r}{f'; {mend}' if mend else ''}")
    if vm.count is None or vm.count != int(vm.count):
        return Chips(processor=chip, note="shares accelerators")
    return Chips(processor=chip, count=int(vm.count))


def _accelerator_names(catalog: Catalog) -> list[str]:
    """Return the names of accelerators, and the other names that lead to them."""
    own = [p.name for p in catalog.processors.values() if p.kind != "cpu"]
    other = [alias for alias, name in catalog.aliases.processor.items() if name in own]
    return own + other


def _of_siblings(name: str, arch: str, catalog: Catalog) -> Processor | None:
    """Return the processor that all other sizes of a CPU family have; None where they differ."""
    wanted = family(name)
    found = {
        offer.processor.name if offer.processor is not None else ""
        for offer in catalog.offers
        if offer.kind == "cpu" and family(offer.name) == wanted
    }
    if len(found) != 1 or "" in found:
        return None
    chip = catalog.processors[found.pop()]
    is_arm = isa_class_of(chip.isa) == "arm"
    return chip if not arch or is_arm == arch.casefold().startswith(("arm", "aarch")) else None


def _base(name: str) -> str:
    """Return the model of an accelerator without its version: `NVIDIA A100`."""
    return " ".join(name.split()[:2])
