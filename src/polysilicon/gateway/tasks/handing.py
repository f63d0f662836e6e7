"""Tasks that go from one gateway to another: the lease that says whose each is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from polysilicon.errors import PolysiliconError
from polysilicon.gateway.tasks.register import Entry

if TYPE_CHECKING:
    from polysilicon.runtime.journals.lease import Lease


class Hands(Protocol):
    """Whoever has tasks."""

    failure: PolysiliconError | None

    async def take_up(self, task_ids: list[str]) -> None:
        """Go on with tasks that have become this gateway's."""
        ...

    async def cancel_all(self, task_ids: list[str]) -> None:
        """Cancel tasks, as callers of other gateways ask for."""
        ...

    def drop(self) -> None:
        """Drop the tasks that others have now."""
        ...


class Handing:
    """The part of a gateway's tasks in its lease; without a lease all of them are always its own.

    Args:
        lease: None where no other gateway shares the journal.
    """

    def __init__(self, lease: Lease | None) -> None:
        self._lease = lease
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def shared(self) -> bool:
        """Whether other gateways may have tasks, too."""
        return self._lease is not None

    def is_ours(self, entry: Entry) -> bool:
        """Tell whether a task is this gateway's."""
        return self._lease is None or entry.token == self._lease.token

    @contextmanager
    def holding(self, entry: Entry) -> Iterator[None]:
        """Let what is written within be refused once another gateway has the task."""
        if self._lease is None:
            yield
            return
        from polysilicon.runtime.journals.lease import holding  # noqa: PLC0415 - an extra

        with holding(entry.token):
            yield

    def begin(self, agents: Sequence[str], hands: Hands) -> None:
        """Take tasks of gateways that are gone, from now on."""
        if self._lease is None:
            return
        from polysilicon.runtime.journals.lease import Duties  # noqa: PLC0415 - an extra

        def told(work: Callable[[list[str]], Coroutine[Any, Any, None]]) -> Any:
            return lambda task_ids: self._begin(work(task_ids), hands)

        duties = Duties(
            agents=agents, taken=told(hands.take_up), cancel=told(hands.cancel_all),
            lost=hands.drop,
        )  # fmt: skip
        self._lease.serve(duties)

    def _begin(self, work: Awaitable[None], hands: Hands) -> None:
        async def done() -> None:
            try:
                await work
            except PolysiliconError as failure:  # tasks wait until it can be written again
                hands.failure = failure
                self.give_up()

        task = asyncio.create_task(done())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def give_up(self) -> None:
        """Leave all tasks to others, as nothing can be written here any more."""
        if self._lease is not None:
            self._lease.give_up()

    async def end(self) -> None:
        """Take no more."""
        if self._lease is not None:
            self._lease.rest()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
