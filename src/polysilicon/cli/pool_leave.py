"""`polysilicon pool leave`: sends a machine away from a gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import click

from polysilicon.cli.output import emit_json, json_option
from polysilicon.cli.pool_options import key_option, read_key


@click.command(name="leave", epilog="Example:  polysilicon pool leave http://127.0.0.1:8000 node-7")
@click.argument("gateway")
@click.argument("name")
@key_option
@json_option
def command(gateway: str, name: str, key_file: Path | None, as_json: bool) -> None:
    """Send the machine that joined GATEWAY as NAME away; its steps under way are finished.

    It joins again where it still runs. The key needs the right to administer.
    """
    from polysilicon.gateway.joined.joiner import Place, ask, check_gateway  # noqa: PLC0415 - heavy

    place = Place(gateway=check_gateway(gateway), pool=name, key=read_key(key_file))
    asyncio.run(ask(place, "DELETE", f"/v1/pools/{quote(name, safe='')}"))
    if as_json:
        emit_json({"pool": name, "left": True})
    else:
        click.echo(f"{name} gets no more steps")
