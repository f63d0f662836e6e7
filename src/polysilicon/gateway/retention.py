"""What the gateway's journal forgets, and the sums of it, which stay.

`forgotten.json` is written first: the sums of all that is forgotten, and which steps these are, so
that after a crash the journal forgets them before anything is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from polysilicon.disk import write_whole
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.gateway.totals import Group, Sums, Totals
from polysilicon.runtime.journal import Committed, Journal
from polysilicon.workload.record import StepRecord

if TYPE_CHECKING:
    from polysilicon.gateway.state import Gateway

NAME = "forgotten.json"
MOST_STEPS = 5_000_000
"""That the journal holds whatever their age, some 2.5 GB of them."""

_PAGE = 1000
_LOOK_S = 60.0
_DAY_S = 86_400.0
_log = logging.getLogger("polysilicon.gateway")


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file.

    Attributes:
        through: number of the last step that is forgotten.
        kept: tasks whose steps are not, as they had not ended.
        until_s: the gateway's clock then.
        groups: sums of the steps.
    """

    through: int
    kept: list[str]
    until_s: float
    groups: list[tuple[Group, Sums]]


class Retention:
    """Lets a journal forget; used from one event loop.

    Args:
        journal: of the gateway.
        folder: of the gateway.

    Attributes:
        totals: of all that is forgotten.
        until_s: the gateway's clock when it last forgot.

    Raises:
        InputError: the file is broken.
    """

    def __init__(self, journal: Journal, folder: Path) -> None:
        self._journal, self._path = journal, folder / NAME
        self.totals, self.until_s = Totals(), 0.0
        self._due: tuple[Forgotten, Totals] | None = None  # what the file has, the journal not yet
        if not self._path.exists():
            return
        try:
            known = msgspec.json.decode(self._path.read_bytes(), type=Forgotten)
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(f"cannot be read: {error}", where=str(self._path)) from error
        journal.forget(known.through, known.kept, ())
        self.totals.include(known.groups)
        self.until_s = known.until_s

    async def forget(
        self, before_s: float, now_s: float, *, excess: int, kept: Collection[str]
    ) -> None:
        """Forget the oldest steps, a page at a time, while others have their turns.

        The newest one stays, for a journal that is empty may begin its numbers anew, and those
        steps were taken for forgotten ones.

        Args:
            before_s: until when steps ended that go.
            now_s: by the same clock.
            excess: how many go in any case.
            kept: tasks whose steps stay.

        Raises:
            PolysiliconError: it cannot be written.
        """
        excess -= await self._settle()
        after, more = 0, True
        while more:
            page = self._journal.ended(after, _PAGE + 1)[:-1]
            old = page[: max(excess, 0)]
            old += takewhile(lambda step: (step.record.end_s or 0.0) < before_s, page[len(old) :])
            more, excess = len(old) == _PAGE, excess - len(old)
            if old:
                after = old[-1].seq
                await self._forgotten(old, now_s, kept)

    async def _forgotten(self, steps: list[Committed], now_s: float, kept: Collection[str]) -> None:
        """Keep the sums of steps in the file, then let the journal forget them."""
        totals = Totals()  # the others stay as they are until the journal has forgotten
        totals.include(self.totals.by_group.items())
        for step in steps:
            if step.record.task_id not in kept:
                totals.add(step.record)
        told = Forgotten(
            through=steps[-1].seq, kept=sorted(kept), until_s=now_s,
            groups=list(totals.by_group.items()),
        )  # fmt: skip
        await asyncio.to_thread(write_whole, self._path, msgspec.json.encode(told) + b"\n")
        self._due = told, totals
        await self._settle()

    async def _settle(self) -> int:
        """Let the journal forget what the file says; return how many steps that were.

        After a failure it is done again: the journal may have forgotten them, in part or whole. It
        is done in a thread, as another writer may hold the journal for a while.
        """
        if self._due is None:
            return 0
        told, totals = self._due
        await asyncio.to_thread(self._journal.forget, told.through, told.kept, ())
        count = totals.all.steps - self.totals.all.steps
        self.totals, self.until_s, self._due = totals, told.until_s, None
        return count


def rooted(steps: Iterable[StepRecord]) -> Iterator[StepRecord]:
    """Yield steps, parents before children, without the parents that are forgotten."""
    seen: set[tuple[str, str]] = set()
    for step in steps:
        parents = tuple(p for p in step.parent_ids if (step.task_id, p) in seen)
        seen.add((step.task_id, step.step_id))
        whole = len(parents) == len(step.parent_ids)
        yield step if whole else msgspec.structs.replace(step, parent_ids=parents)


@asynccontextmanager
async def forgetting(gateway: Gateway) -> AsyncIterator[None]:
    """Forget what is old, now and then, while the gateway serves."""

    async def forget() -> None:
        while True:
            try:
                await _forget_once(gateway)
            except PolysiliconError as error:  # the next time tries again
                _log.error("the journal could not forget: %s", error)
            await asyncio.sleep(_LOOK_S)

    forgets = asyncio.create_task(forget())
    try:
        yield
    finally:
        forgets.cancel()
        await asyncio.gather(forgets, return_exceptions=True)


async def _forget_once(gateway: Gateway) -> None:
    """Forget what is older than it may be: steps, and tasks that have ended."""
    keep_s, tasks, now_s = gateway.settings.keep_days * _DAY_S, gateway.tasks, gateway.clock()
    assert tasks is not None
    known = gateway.retention.totals.all.steps
    begun = (t for t, live in tasks.live.items() if live.steps or live.begun_s is not None)
    kept = frozenset(begun)  # those that only wait have no steps
    excess = gateway.totals.all.steps - known - MOST_STEPS
    await gateway.retention.forget(now_s - keep_s, now_s, excess=excess, kept=kept)
    more = True
    while more:
        more = await tasks.register.forget(gateway.wall() - keep_s, _PAGE) == _PAGE
        await asyncio.sleep(0)
