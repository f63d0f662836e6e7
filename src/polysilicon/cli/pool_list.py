"""`polysilicon pool list`: the pools of a gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec
from rich.table import Table
from rich.text import Text

from polysilicon.cli.output import emit_json, json_option, out
from polysilicon.cli.pool_options import key_option, read_key
from polysilicon.errors import PolysiliconError, visible


@click.command(name="list", epilog="Example:  polysilicon pool list http://127.0.0.1:8000")
@click.argument("gateway")
@key_option
@json_option
def command(gateway: str, key_file: Path | None, as_json: bool) -> None:
    """List the pools of GATEWAY: those of its fleet file, and machines that joined."""
    from polysilicon.gateway.joined.joiner import Place, ask, check_gateway  # noqa: PLC0415 - heavy
    from polysilicon.gateway.joined.types import PoolList  # noqa: PLC0415

    place = Place(gateway=check_gateway(gateway), pool="", key=read_key(key_file))
    answer = asyncio.run(ask(place, "GET", "/v1/pools"))
    try:
        found = msgspec.json.decode(answer, type=PoolList)
    except msgspec.DecodeError as error:
        raise PolysiliconError(f"{gateway}: this is no gateway of Polysilicon") from error
    if as_json:
        emit_json(found)
        return
    table = Table("pool", "offer", "region", "serves", "steps", "how it is")
    for pool in found.pools:
        state = "up" if pool.up else "drained"
        if pool.joined:
            state = f"{state}, joined ({pool.processor})"
        state += "".join(f"; {m.what}: {m.declared} declared, {m.found} found"
                         for m in pool.mismatches)  # fmt: skip
        steps = f"{pool.running} of {pool.concurrency * pool.units}, {pool.waiting} wait"
        serves = [one for one in pool.serves if not (pool.sandboxes and one == "tool:*")]
        serves += [f"code ({', '.join(pool.sandboxes)})"] if pool.sandboxes else []
        cells = (pool.name, pool.offer, pool.region, ", ".join(serves), steps, state)
        table.add_row(*(Text(visible(cell)) for cell in cells))  # machines made them up
    out().print(table)
