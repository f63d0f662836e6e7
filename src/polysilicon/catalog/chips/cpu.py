"""Which CPU a machine has: the main ID register on Arm, family, model and stepping on x86."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from polysilicon.catalog.chips.found import Chip
from polysilicon.catalog.chips.table import ChipId, best, chip_ids
from polysilicon.catalog.chips.tree import text_at, word_at

_BUSES = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
_WIDTHS = ("", "avx", "avx2", "avx512", "amx")


def cpu_of(root: Path, place: str) -> Chip:
    """Return the CPU; it has no name where the files tell none.

    Args:
        root: folder of `proc` and `sys`.
        place: where the machine is, see `Hardware.place`.
    """
    told = _first_cpu(text_at(root / "proc/cpuinfo"))
    if "CPU implementer" in told or _midr(root):
        return _arm(root, told, place)
    if told.get("vendor_id") in _BUSES:
        return _x86(told, place)
    return Chip(kind="cpu", chip=told.get("model name", ""), how="/proc/cpuinfo")


def core_of(cpuinfo: str) -> str:
    """Return how an Arm core is called, else its implementer and part; nothing of other CPUs.

    Args:
        cpuinfo: what `/proc/cpuinfo` says, which has no model names on Arm.
    """
    key = _told_key(_first_cpu(cpuinfo))
    return next((row.chip for row in chip_ids() if row.bus == "arm" and row.id == key), key)


def _first_cpu(text: str) -> dict[str, str]:
    """Return what is told of the first CPU."""
    found: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def _midr(root: Path) -> str:
    """Return implementer and part of the first CPU's main ID register, as the table writes them."""
    value = _number(word_at(root / "sys/devices/system/cpu/cpu0/regs/identification/midr_el1"))
    return "" if value is None else f"{value >> 24 & 0xFF:#04x}:{value >> 4 & 0xFFF:#05x}"


def _told_key(told: Mapping[str, str]) -> str:
    """Return implementer and part that `/proc/cpuinfo` tells, as the table writes them."""
    implementer, part = (_number(told.get(f"CPU {n}", "")) for n in ("implementer", "part"))
    return "" if implementer is None or part is None else f"{implementer:#04x}:{part:#05x}"


def _arm(root: Path, told: Mapping[str, str], place: str) -> Chip:
    key = _told_key(told) or _midr(root)
    rows = [row for row in chip_ids() if row.bus == "arm" and row.id == key]
    how = f"MIDR implementer and part {key}"
    return _chip(rows, place, how) if rows else Chip(kind="cpu", how=how)


def _x86(told: Mapping[str, str], place: str) -> Chip:
    """Return an x86 chip; a hypervisor may show another model than the chip's, or no name."""
    name = told.get("model name", "")
    words = name.replace("(R)", " ").split()
    named = [row for row in chip_ids() if row.bus == "name" and row.id in words]
    if named:
        return _chip(named, place, f"its name, {name}")
    numbers = [_number(told.get(key, "")) for key in ("cpu family", "model", "stepping")]
    text = ":".join("?" if number is None else str(number) for number in numbers)
    how = f"family:model:stepping {text}"
    bus = _BUSES[told["vendor_id"]]
    rows = [row for row in chip_ids() if row.bus == bus and _within(numbers, row.id)]
    width = _width(told.get("flags", "").split())
    if rows and _WIDTHS.index(rows[0].isa) >= _WIDTHS.index(width):
        return _chip(rows, place, how)
    # No chip has more than its generation does: it is a later one under a mask.
    masked = f"{how} is of no known server chip" if not rows else f"{how} is a mask"
    likely = [row for row in chip_ids() if row.bus == bus and row.isa == width == "amx"]
    return _chip(likely, "?", f"{masked}; by its instructions") if likely else Chip(
        kind="cpu", chip=name, how=masked
    )  # fmt: skip


def _width(flags: Sequence[str]) -> str:
    """Return the widest instructions that a model can use."""
    for width, flag in (("amx", "amx_tile"), ("avx512", "avx512f")):
        if flag in flags:
            return width
    return next((flag for flag in ("avx2", "avx") if flag in flags), "")


def _within(numbers: Sequence[int | None], told: str) -> bool:
    """Tell whether family, model and stepping are those of an id, whose parts may be ranges."""
    for number, piece in zip(numbers, told.split(":"), strict=True):
        low, _, high = piece.partition("-")
        if number is None or not int(low) <= number <= int(high or low):
            return False
    return True


def _chip(rows: Sequence[ChipId], place: str, how: str) -> Chip:
    """Return the chip of an id in a place, or what it may be."""
    row = best(rows, place)
    names = list(dict.fromkeys(r.chip for r in rows))
    if row is not None and len(names) == 1 and row.processor:
        return Chip(kind="cpu", chip=row.chip, processor=row.processor, how=how)
    may_be = tuple(
        dict.fromkeys(r.processor for r in chip_ids() if r.chip in names and r.processor)
    )
    return Chip(kind="cpu", chip=" or ".join(names), may_be=may_be, how=how)


def _number(text: str) -> int | None:
    """Return a number as the kernel writes it; None where it is none, or one of no register."""
    try:
        value = int(text, 0)
    except ValueError:
        return None
    return value if 0 <= value < 2**64 else None
