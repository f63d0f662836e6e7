"""`polysilicon pool recipes`: which engines can be started here, and why the others cannot."""

from __future__ import annotations

import click
from rich.table import Table

from polysilicon.cli.output import emit_json, json_option, out


@click.command(name="recipes", epilog="Example:  polysilicon pool recipes")
@json_option
def command(as_json: bool) -> None:
    """List the recipes of `pool start`, and what keeps each from being started here."""
    from polysilicon import catalog  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.catalog.chips.devices import bindings  # noqa: PLC0415
    from polysilicon.catalog.chips.hardware import hardware_of  # noqa: PLC0415
    from polysilicon.errors import InputError  # noqa: PLC0415
    from polysilicon.runtime.servers.recipes import chip_for, program_of, recipes  # noqa: PLC0415

    hardware = hardware_of(catalog.load(), nvml=bindings())
    rows = []
    for recipe in recipes().values():
        try:
            chip_for(recipe, hardware)
            program_of(recipe)
        except InputError as error:
            reason = f"{error.what}; {error.mend}" if error.mend else error.what
        else:
            reason = ""
        rows.append({"name": recipe.name, "title": recipe.title, "here": not reason,
                     "reason": reason, "sources": recipe.sources})  # fmt: skip
    if as_json:
        emit_json({"recipes": rows})
        return
    table = Table("recipe", "what", "here")
    for row in rows:
        table.add_row(str(row["name"]), str(row["title"]), str(row["reason"]) or "yes")
    out().print(table)
