"""Which accelerators a machine has: by their drivers, by NVML, and by their ids on the PCI bus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.chips.found import Chip
from polysilicon.catalog.chips.table import ChipId, chip_ids
from polysilicon.catalog.chips.tree import names_in, text_at, word_at
from polysilicon.catalog.processors import ProcessorKind


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Accelerators that share a driver.

    Attributes:
        name: of the family.
        kind: of its chips.
        vendor: of the PCI devices.
        classes: beginnings of their PCI classes; other devices of the vendor are none of them.
        devices: folders under `/dev`, and what the names of device files in them look like.
    """

    name: str
    kind: ProcessorKind
    vendor: str
    classes: tuple[str, ...]
    devices: tuple[tuple[str, str], ...]


_ANY = ("0x",)
FAMILIES = (
    Family(name="nvidia", kind="gpu", vendor="10de", classes=("0x03",),
           devices=((".", "nvidia[0-9]+"),)),
    Family(name="amd", kind="gpu", vendor="1002", classes=("0x03", "0x12"),
           devices=((".", "kfd"),)),
    Family(name="neuron", kind="asic", vendor="1d0f", classes=_ANY,
           devices=((".", "neuron[0-9]+"),)),
    Family(name="tpu", kind="asic", vendor="1ae0", classes=_ANY,
           devices=((".", "accel[0-9]+"), ("vfio", "[0-9]+"))),
    Family(name="gaudi", kind="asic", vendor="1da3", classes=_ANY,
           devices=(("accel", "accel[0-9]+"), (".", "hl[0-9]+"))),
)  # fmt: skip

_OF_INSTANCES = {"trn1": "AWS Trainium1", "trn2": "AWS Trainium2", "trn3": "AWS Trainium3",
                 "inf1": "AWS Inferentia1", "inf2": "AWS Inferentia2"}  # fmt: skip
_FULL_NAME = re.compile(r"Model:\s*(.+)")


def accelerators_of(root: Path, catalog: Catalog, instance: str, nvml: Any = None) -> list[Chip]:
    """Return the accelerators, those of each family together.

    Args:
        root: folder of `proc`, `sys` and `dev`.
        catalog: whose names of processors are given.
        instance: type of the machine in its cloud; blank where that is not known.
        nvml: module of NVML's bindings; None where there is none.
    """
    on_bus = _on_bus(root / "sys/bus/pci/devices")
    found: list[Chip] = []
    for family in FAMILIES:
        devices = _devices(root / "dev", family)
        chips = _by_driver(root, family, catalog, nvml)
        if not chips:
            chips = _by_ids([one for one in on_bus if one[0] == family.vendor], family)
        if not chips and devices and family.name == "neuron":
            chips = [_by_instance(family, instance, len(devices), catalog)]
        found += [msgspec.structs.replace(chip, devices=devices) for chip in chips]
    return found


def bindings() -> Any:
    """Return the module of NVML's bindings (package nvidia-ml-py), or None."""
    try:
        return import_module("pynvml")
    except ImportError:
        return None


def _devices(dev: Path, family: Family) -> tuple[str, ...]:
    """Return the device files of a family."""
    found = []
    for folder, pattern in family.devices:
        inner = "" if folder == "." else f"{folder}/"
        found += [f"/dev/{inner}{name}" for name in names_in(dev / folder, pattern)]
    return tuple(found)


def _on_bus(folder: Path) -> list[tuple[str, str]]:
    """Return vendor and device of the accelerators on the bus."""
    classes = {family.vendor: family.classes for family in FAMILIES}
    found = []
    for name in names_in(folder):
        vendor = word_at(folder / name / "vendor").removeprefix("0x").lower()
        if vendor in classes and word_at(folder / name / "class").startswith(classes[vendor]):
            found.append((vendor, word_at(folder / name / "device").removeprefix("0x").lower()))
    return found


def _by_driver(root: Path, family: Family, catalog: Catalog, nvml: Any) -> list[Chip]:
    """Return what a driver tells; nothing where it is not there."""
    if family.name == "nvidia":
        names, how = _nvml_names(nvml), "NVML"
        if not names:
            names, how = _proc_names(root / "proc/driver/nvidia/gpus"), "/proc/driver/nvidia"
        return [_named(family, name, n, how, catalog) for name, n in Counter(names).items()]
    if family.name == "amd":
        return _by_ids(_in_kfd(root / "sys/class/kfd/kfd/topology/nodes"), family, "kfd, device")
    return []


def _nvml_names(nvml: Any) -> list[str]:
    """Return the names that NVML gives; none where its library or driver is not there."""
    if nvml is None:
        return []
    try:
        nvml.nvmlInit()
        try:
            handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
            names = [nvml.nvmlDeviceGetName(handle) for handle in handles]
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError:
        return []
    return [name.decode(errors="replace") if isinstance(name, bytes) else name for name in names]


def _proc_names(folder: Path) -> list[str]:
    """Return the names that NVIDIA's driver gives."""
    texts = (text_at(folder / name / "information") for name in names_in(folder))
    found = (_FULL_NAME.search(text) for text in texts)
    return [match[1].strip() for match in found if match]


def _named(family: Family, name: str, count: int, how: str, catalog: Catalog) -> Chip:
    known = catalog.aliases.processor_name(name, catalog.processors)
    if known is None and not name.startswith("NVIDIA"):
        known = catalog.aliases.processor_name(f"NVIDIA {name}", catalog.processors)
    return Chip(kind=family.kind, chip=name, processor=known or "", count=count,
                family=family.name, how=how)  # fmt: skip


def _in_kfd(folder: Path) -> list[tuple[str, str]]:
    """Return vendor and device of the GPUs in ROCm's topology; partitions of one are one."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for name in names_in(folder, "[0-9]+"):
        lines = text_at(folder / name / "properties").splitlines()
        told = dict(line.split(maxsplit=1) for line in lines if len(line.split()) == 2)
        if told.get("simd_count", "0") == "0":  # a CPU
            continue
        place = told.get("domain", "0"), told.get("location_id", name)
        numbers = [told.get(key, "") for key in ("vendor_id", "device_id")]
        vendor, device = (f"{int(n):04x}" if n.isdecimal() and len(n) < 9 else "" for n in numbers)
        found[place] = vendor, device
    return list(found.values())


def _by_ids(ids: Sequence[tuple[str, str]], family: Family, how: str = "PCI id") -> list[Chip]:
    """Return the accelerators of ids; of a vendor that makes others, those that are known."""
    rows: dict[str, ChipId] = {row.id: row for row in chip_ids() if row.bus == "pci"}
    found = []
    for (vendor, device), functions in Counter(ids).items():
        key = f"{vendor}:{device}"
        row = rows.get(key)
        if row is not None:
            count = max(functions // row.functions, 1)
            found.append(Chip(kind=family.kind, chip=row.chip, processor=row.processor,
                              count=count, family=family.name, how=f"{how} {key}"))  # fmt: skip
        elif family.classes != _ANY:
            found.append(Chip(kind=family.kind, count=functions, family=family.name,
                              how=f"{how} {key}, which is not known"))  # fmt: skip
    return found


def _by_instance(family: Family, instance: str, count: int, catalog: Catalog) -> Chip:
    """Return accelerators of which there are device files only, by the type of the machine."""
    chip = _OF_INSTANCES.get(instance.partition(".")[0][:4], "AWS Neuron device")
    known = chip if chip in catalog.processors else ""
    how = f"/dev/neuron*, on {instance or 'an unknown machine'}"
    return Chip(kind=family.kind, chip=chip, processor=known, count=count, family=family.name,
                how=how)  # fmt: skip
