"""Tasks as callers see them, whichever gateway has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from polysilicon.gateway.access import Caller
from polysilicon.gateway.errors import ApiError
from polysilicon.gateway.tasks.live import Live
from polysilicon.gateway.tasks.register import End, Entry, Register
from polysilicon.gateway.tasks.types import Status, TaskView
from polysilicon.runtime.journal import Journal
from polysilicon.runtime.tasks import CANCELLED
from polysilicon.workload.record import TaskRecord

_PAGE = 1000


class Views:
    """Looks at tasks.

    Args:
        register: what was asked.
        journal: their steps.
        live: the tasks of this gateway that have not ended.
        clock: of the step records.
    """

    def __init__(
        self,
        register: Register,
        journal: Journal,
        live: Mapping[str, Live],
        clock: Callable[[], float],
    ) -> None:
        self._register, self._journal, self._live, self._clock = register, journal, live, clock

    async def entry(self, task_id: str, caller: Caller) -> Entry:
        """Return a task that a caller may see: its own, or any for keys with `admin`.

        Raises:
            ApiError: 404; there is none.
        """
        found = await self._register.get(task_id)
        if found is None or not (caller.key.admin or found.caller == caller.name):
            raise ApiError(404, "there is no such task", code="task_not_found")
        return found

    async def known(self, task_id: str) -> Entry:
        """Return a task that there is."""
        found = await self._register.get(task_id)
        assert found is not None
        return found

    async def recount(self, live: Live) -> Live:
        """Count the steps of a task that ended before, or elsewhere, and return it."""
        after = 0
        while page := await self._journal.ended_of(live.entry.task_id, after, _PAGE):
            for step in page:
                live.add(step.record)
            after = page[-1].seq
        return live

    async def view(self, entry: Entry) -> TaskView:
        """Return a task as callers see it."""
        told: dict[str, Any] = {}
        if entry.end is not None:
            told = {name: getattr(entry.end, name) for name in End.__struct_fields__}
        else:
            live = self._live.get(entry.task_id)
            if live is None:  # another gateway has it
                live = await self.recount(Live(entry, self._clock()))
            begun_s = live.begun_s
            run_s = None if begun_s is None else self._clock() - begun_s
            told = {"steps": live.steps, "cost_usd": live.cost_usd, "energy_j": live.energy_j}
            told["run_s"] = run_s
        return TaskView(
            id=entry.task_id,
            agent=entry.agent,
            status=entry.status,
            created_at=entry.created_at,
            input=msgspec.msgpack.decode(entry.input),
            **told,
        )


def status_of(record: TaskRecord) -> Status:
    """Return what a task is that ended."""
    if record.ok:
        return "completed"
    return "cancelled" if (record.error or "").startswith(CANCELLED) else "failed"
