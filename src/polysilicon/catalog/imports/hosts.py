"""Google Cloud's accelerator machines: their price is the host's, and the accelerators' apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.imports.chips import Chips, named_chip
from polysilicon.catalog.imports.vms import Vm

# Families of machines that exist only with accelerators.
_ONLY_WITH = re.compile(r"gcp/(a[2-9]x?|g[2-9]|ct\d\w*)-.*")
_COUNT = re.compile(r".*-(\d+)g(-\w+)?")


def is_host(name: str, chips: Chips) -> bool:
    """Tell whether a row without an accelerator is the host of some."""
    accelerated = chips.processor is not None and chips.processor.kind != "cpu"
    return _ONLY_WITH.fullmatch(name) is not None or (name.startswith("gcp/") and accelerated)


class Attachable:
    """Prices of accelerators that are added to hosts.

    Args:
        vms: rows without an instance type.
        catalog: processors by name.
    """

    def __init__(self, vms: Sequence[Vm], catalog: Catalog) -> None:
        self._by_place: dict[tuple[str, str, str], list[Vm]] = {}
        for vm in vms:
            chip = named_chip(vm.accelerator, catalog)
            if chip is not None and vm.count:
                self._by_place.setdefault((vm.region, vm.zone, chip.name), []).append(vm)

    def complete(self, zones: Sequence[Vm], chips: Chips) -> list[Vm]:
        """Return the zones in which host and accelerators are priced, with the sum of both.

        Args:
            zones: rows of one host.
            chips: what the host carries; without their number, the number in its name.
        """
        if chips.processor is None:
            return []
        found = []
        for host in zones:
            match = _COUNT.fullmatch(host.instance)
            count = chips.count or (int(match[1]) if match else 0)
            place = (host.region, host.zone, chips.processor.name)
            unit = _unit(self._by_place.get(place, []), host.instance, count)
            if unit is None:
                continue
            found.append(
                msgspec.structs.replace(
                    host, usd=_sum(host.usd, unit.usd), spot_usd=_sum(host.spot_usd, unit.spot_usd)
                )
            )
        return found


def _unit(rows: Sequence[Vm], instance: str, count: int) -> Vm | None:
    """Return the prices of `count` accelerators for a host; None where there are none."""
    mega = "mega" in instance.casefold()
    fits = [vm for vm in rows if ("mega" in vm.accelerator.casefold()) == mega] or list(rows)
    if not fits or count < 1:
        return None
    exact = [vm for vm in fits if vm.count == count]
    if exact:
        return exact[0]
    one = min(fits, key=lambda vm: vm.count or 0.0)
    assert one.count
    factor = count / one.count
    return msgspec.structs.replace(
        one,
        usd=None if one.usd is None else one.usd * factor,
        spot_usd=None if one.spot_usd is None else one.spot_usd * factor,
    )


def _sum(host: float | None, accelerators: float | None) -> float | None:
    """Return the sum of two prices; None where one is not known."""
    return None if host is None or accelerators is None else host + accelerators
