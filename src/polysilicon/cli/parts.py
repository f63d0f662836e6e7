"""Groups of verbs: what an unknown one may stand for, and commands imported only when used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from polysilicon.errors import nearest


class Verbs(click.Group):
    """A group that says which of its commands one that it does not know may stand for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for.

        Raises:
            click.UsageError: there is none of that name.
        """
        name = args[0]
        known = name.startswith("-") or self.get_command(ctx, name) is not None
        if not known and not ctx.resilient_parsing:
            mend = nearest(name, self.list_commands(ctx), 1) or f"see {ctx.command_path} --help"
            raise click.UsageError(f"No such command {name!r}; {mend}", ctx)
        return super().resolve_command(ctx, args)


class Parts(Verbs):
    """A group of commands that are each the `command` of a module of this folder.

    Args:
        parts: names of the commands → names of their modules.
    """

    def __init__(self, *args: Any, parts: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._parts = parts

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return all commands, in the order in which they were given."""
        return list(self._parts)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return its `command`."""
        if cmd_name not in self._parts:
            return None
        command = import_module(f"polysilicon.cli.{self._parts[cmd_name]}").command
        assert isinstance(command, click.Command)
        return command
