"""Help of verbs with many options: a heading for each group of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


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


class Number(click.ParamType):
    """A number between two others, both included.

    Unlike click's own it lets no "nan" through, and its help does not repeat its ends.

    Args:
        low: least.
        high: most.
        whole: only whole numbers.
    """

    name = "number"

    def __init__(self, low: float, high: float, *, whole: bool = False) -> None:
        self.low, self.high, self.whole = low, high, whole

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number."""
        try:
            number = int(value) if self.whole else float(value)
        except ValueError:
            kind = "whole number" if self.whole else "number"
            self.fail(f"{value!r} is no {kind}", param, ctx)
        if not self.low <= number <= self.high:
            self.fail(f"{value} is not between {self.low} and {self.high}", param, ctx)
        return number
