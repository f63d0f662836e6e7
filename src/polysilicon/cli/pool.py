"""`polysilicon pool`: machines that join a gateway, and engines that are started on this one."""

from __future__ import annotations

import click

from polysilicon.cli.parts import Parts

_PARTS = ("machine", "join", "list", "leave", "start", "recipes")


@click.group(
    cls=Parts,
    parts={name: f"pool_{name}" for name in _PARTS},
    epilog="Example:  polysilicon pool machine",
)
def command() -> None:
    """Join machines to a running gateway, and start engines on them."""
