"""Verbs in parts: groups whose commands are imported only when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class Parts(click.Group):
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
