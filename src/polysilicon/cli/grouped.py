"""Help of verbs with many options: a heading for each group of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
N = TypeVar("N", int, float)


class GroupedOption(click.Option):
    """An option that stands under a heading.

    Args:
        heading: of its group.
    """

    def __init__(self, *args: Any, heading: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading


class Grouped(click.Command):
    """A verb whose help shows options by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups in order of first use, then the options without one."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                heading = option.heading if isinstance(option, GroupedOption) else "Options"
                groups.setdefault(heading, []).append(record)
        for heading in sorted(groups, key=lambda name: name == "Options"):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])


def group(heading: str) -> Callable[..., Callable[[F], F]]:
    """Return what `click.option` is, for options under a heading."""

    def option(*names: str, **settings: Any) -> Callable[[F], F]:
        return click.option(*names, cls=GroupedOption, heading=heading, **settings)

    return option


def number(low: float, high: float) -> Callable[[str], float]:
    """Return what reads a number between two others, both included.

    Unlike click's own ranges it lets no "nan" through, and its help does not repeat its ends.
    """

    def number(value: str) -> float:
        try:
            found = float(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no number") from None
        return _between(found, low, high)

    return number


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return what reads a whole number between two others, both included."""

    def number(value: str) -> int:
        try:
            found = int(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no whole number") from None
        return _between(found, low, high)

    return number


def _between(found: N, low: float, high: float) -> N:
    """Return a number.

    Raises:
        click.BadParameter: it is outside.
    """
    if not low <= found <= high:
        raise click.BadParameter(f"{found:g} is not between {low:g} and {high:g}")
    return found
