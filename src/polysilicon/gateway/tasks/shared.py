"""The register of tasks in the database of a shared journal: each task is some gateway's."""

from __future__ import annotations

from typing import Any

import msgspec

from polysilicon.gateway.tasks.register import Asked, End, Entry, Unfinished
from polysilicon.gateway.tasks.types import Status
from polysilicon.runtime.journal import LeaseLostError
from polysilicon.runtime.journals import shared_statements as sql
from polysilicon.runtime.journals.shared import SharedJournal
from polysilicon.workload.record import TaskRecord

_TRIES = 5
_end_decoder = msgspec.msgpack.Decoder(End)
_record_decoder = msgspec.msgpack.Decoder(TaskRecord)


class SharedRegister:
    """The `Register` of gateways that share a journal.

    Args:
        journal: that they share.
    """

    def __init__(self, journal: SharedJournal) -> None:
        self._journal, self.lease = journal, journal.lease

    def close(self) -> None:
        """The journal closes the database."""

    async def add(self, entry: Entry, idempotency: str | None) -> Entry:
        """Take a task in, unless the caller had asked for it before; return it, or that one."""
        for tried in range(_TRIES):
            token = self._journal.lease.token
            row = (entry.task_id, entry.caller, idempotency, entry.agent, entry.input,
                   entry.created_at, token, entry.given)  # fmt: skip
            try:
                await self._journal.keep_under(token, sql.ADD, row)
            except LeaseLostError:
                continue
            if idempotency is not None:
                return await self.with_key(entry.caller, idempotency) or entry
            if tried:  # it may have been kept the time before, and be another gateway's by now
                return await self.get(entry.task_id) or entry
            return msgspec.structs.replace(entry, token=token)
        raise LeaseLostError

    async def with_key(self, caller: str, idempotency: str) -> Entry | None:
        """Return the task that a caller asked for with an idempotency key; None where none was."""
        return _one(await self._journal.rows(sql.WITH_KEY, caller, idempotency))

    async def begun(self, task_id: str) -> None:
        """Note that a task is under way."""
        await self._journal.keep(sql.BEGUN, (task_id, "in_progress"))

    async def ended(self, task_id: str, status: Status, end: End, wall_s: float) -> None:
        """Note how a task ended, and at what time of day."""
        row = (task_id, status, msgspec.msgpack.encode(end), wall_s)
        await self._journal.keep(sql.ENDED, row)

    async def cancel(self, task_id: str) -> None:
        """Ask the gateway that has a task to cancel it."""
        await self._journal.keep(sql.CANCEL, (task_id, ""))

    async def get(self, task_id: str) -> Entry | None:
        """Return a task; None where there is none."""
        return _one(await self._journal.rows(sql.ENTRY, task_id))

    def left(self) -> list[str]:
        """Return none: they are left to whoever takes them first."""
        return []

    async def unfinished(self, task_ids: list[str]) -> list[Unfinished]:
        """Return those of some tasks that have not ended, in the order of their arrival."""
        rows = await self._journal.rows(sql.OPEN, task_ids)
        return [Unfinished(entry=_entry(row), record=_record(row[-1])) for row in rows]

    async def page(self, asked: Asked) -> list[Entry]:
        """Return up to `limit` tasks, newest first."""
        told = {name: getattr(asked, name) for name in sql.ASKED}
        told = {name: value for name, value in told.items() if value is not None}
        page = sql.PAGE.format(asked=" ".join(sql.ASKED[name] for name in told))
        rows = await self._journal.rows(page, *told.values(), asked.limit)
        return [_entry(row) for row in rows]

    async def forget(self, wall_s: float, limit: int) -> int:
        """Drop up to `limit` tasks that ended before a time; return how many."""
        return len(await self._journal.rows(sql.FORGET_ASKED, self._journal.run, wall_s, limit))


def _entry(row: tuple[Any, ...]) -> Entry:
    *columns, token, end, _ = row
    known = dict(zip(Entry.__struct_fields__, columns, strict=False))
    decoded = None if end is None else _end_decoder.decode(end)
    return Entry(**known, token=token, end=decoded)


def _one(rows: list[tuple[Any, ...]]) -> Entry | None:
    return _entry(rows[0]) if rows else None


def _record(data: bytes | None) -> TaskRecord | None:
    return None if data is None else _record_decoder.decode(data)
