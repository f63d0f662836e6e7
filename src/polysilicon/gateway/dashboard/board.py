"""What the dashboard keeps while a gateway runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from polysilicon.gateway.dashboard.estimates import Estimates
from polysilicon.gateway.dashboard.files import Shown
from polysilicon.gateway.dashboard.session import Forms
from polysilicon.gateway.dashboard.watch import Watch
from polysilicon.placement.placement_file import read_placement
from polysilicon.planning.plan_file import read_plan

if TYPE_CHECKING:
    from polysilicon.gateway.state import Gateway


class Board:
    """What was seen, estimates of it, the files that are shown, and the tokens of forms.

    Args:
        gateway: that it shows.

    Raises:
        InputError: a file that was named is missing or wrong.
    """

    def __init__(self, gateway: Gateway) -> None:
        settings = gateway.settings
        self.version = version("polysilicon")
        self.watch = Watch(gateway.feed, gateway.totals, gateway.clock)
        self.estimates = Estimates(
            gateway.machine.here.workers, self.watch.whole_tasks, gateway.clock
        )
        self.forms = Forms()
        self.placement = Shown(
            settings.placement or settings.folder / "placement.json",
            read_placement,
            named=settings.placement is not None,
        )
        self.plan = Shown(
            settings.plan or settings.folder / "plan.json",
            lambda path: read_plan(path).plan,
            named=settings.plan is not None,
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Look at what happens."""
        async with self.watch.watching():
            try:
                yield
            finally:
                self.estimates.close()
