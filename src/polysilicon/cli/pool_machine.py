"""`polysilicon pool machine`: what this machine is, as a gateway would be told."""

from __future__ import annotations

import click
from rich.table import Table

from polysilicon import units
from polysilicon.cli.output import emit_json, json_option, out


@click.command(name="machine", epilog="Example:  polysilicon pool machine --json")
@json_option
def command(as_json: bool) -> None:
    """Tell which chips this machine has, and the offer that it says it is of."""
    from polysilicon import catalog  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.catalog.chips.devices import bindings  # noqa: PLC0415
    from polysilicon.catalog.chips.hardware import hardware_of, offer_of  # noqa: PLC0415

    facts = catalog.load()
    hardware = hardware_of(facts, nvml=bindings())
    offer = offer_of(hardware, facts)
    if as_json:
        emit_json({"hardware": hardware, "offer": offer})
        return
    table = Table("what", "found", "by")
    place = " ".join(filter(None, (hardware.place, hardware.instance))) or "not told"
    table.add_row("place", place, "the firmware's names")
    table.add_row("offer", offer or "not told", "the catalog")
    for chip in (hardware.cpu, *hardware.accelerators):
        count = f"{chip.count} of " if chip.count > 1 else ""
        table.add_row(chip.family or chip.kind, f"{count}{chip.name}", chip.how)
    table.add_row("cores", str(hardware.cores), "the process's affinity")
    table.add_row("memory", units.size_bytes(hardware.memory_bytes), "the kernel")
    out().print(table)
