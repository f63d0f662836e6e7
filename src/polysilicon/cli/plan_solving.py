"""What verbs that solve plans share: how long to solve, and Ctrl-C for the best so far."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from polysilicon.cli.grouped import number
from polysilicon.cli.output import progress, waiting
from polysilicon.planning.answer import Progress
from polysilicon.planning.answered import Effort

F = TypeVar("F", bound=Callable[..., Any])


def effort_options(function: F) -> F:
    """Add the options that say how long to solve."""
    gap = click.option(
        "--gap",
        type=number(0.0, 1.0),
        default=0.005,
        show_default=True,
        help="Stop when no plan can be cheaper by more than this share.",
    )
    seconds = click.option(
        "--time",
        "time_s",
        type=number(0.1, 1e6),
        default=60.0,
        show_default=True,
        help="Seconds after which the best is taken; as long again for regret and worth.",
    )
    return gap(seconds(function))


@contextmanager
def solving(gap: float, time_s: float, *, explore_s: float = 0.0) -> Iterator[Effort]:
    """Give the effort of a solve, which the first Ctrl-C ends with the best so far."""
    asked = threading.Event()
    console = progress()

    def stop(_number: int, _frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        console.print("stopping with the best so far; once more to leave at once")

    def told(one: Progress) -> None:
        if console.is_terminal and one.seconds > 2.0:
            cost = f"{one.cost_usd:,.0f}"
            console.print(f"round {one.round}: ${cost}, gap {one.gap:.2%}, {one.seconds:.0f} s")

    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, stop) if main_thread else None
    try:
        with waiting("planning"):
            yield Effort(
                gap=gap, time_s=time_s, explore_s=explore_s, stop=asked.is_set, progress=told
            )
    finally:
        if main_thread:
            signal.signal(signal.SIGINT, before)
