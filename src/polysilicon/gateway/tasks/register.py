"""The register of tasks: what was asked by whom, and how it ended.

The journal has the steps, and is what a task goes on from; this has what the journal does not know:
callers, idempotency keys, the order of arrival. It lies beside the journal: of a gateway's own in
one SQLite file, of a shared one in its database (`shared.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from polysilicon.errors import InputError
from polysilicon.gateway.tasks.types import Status
from polysilicon.runtime.journal import Journal, JournalError, PendingTask
from polysilicon.runtime.journals.commits import Commits, transaction
from polysilicon.workload.record import TaskRecord

if TYPE_CHECKING:
    from polysilicon.runtime.journals.lease import Lease

NAME = "tasks.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL UNIQUE, caller TEXT NOT NULL,
    idempotency TEXT, agent TEXT NOT NULL, input BLOB NOT NULL, created_at REAL NOT NULL,
    status TEXT NOT NULL, end BLOB, ended_at REAL, given TEXT, UNIQUE (caller, idempotency)
);
"""
_INDEXES = """
CREATE INDEX IF NOT EXISTS open_tasks ON task (seq) WHERE end IS NULL;
CREATE INDEX IF NOT EXISTS of_caller ON task (caller, seq);
CREATE INDEX IF NOT EXISTS of_status ON task (status, seq);
CREATE INDEX IF NOT EXISTS of_agent ON task (agent, seq);
CREATE INDEX IF NOT EXISTS by_end ON task (coalesce(ended_at, created_at)) WHERE end IS NOT NULL;
"""
_ADD = """
INSERT OR IGNORE INTO task
(task_id, caller, idempotency, agent, input, created_at, status, given)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_BEGUN = "UPDATE task SET status = 'in_progress' WHERE task_id = ? AND end IS NULL"
_ENDED = "UPDATE task SET status = ?, end = ?, ended_at = ? WHERE task_id = ? AND end IS NULL"
_NAMED = "task_id IN (SELECT value FROM json_each(?))"
_COLUMNS = "seq, task_id, caller, agent, input, created_at, status, given, end"
_LATER = {"ended_at": "REAL", "given": "TEXT"}
"""Columns that registers of versions before have not."""
_BUSY_S = 10.0

Write = tuple[str, tuple[Any, ...]]
"""A statement and its values."""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended; as in `TaskView`."""

    output: Any = None
    error: str | None = None
    quality: float | None = None
    steps: int = 0
    cost_usd: float | None = None
    energy_j: float | None = None
    run_s: float = 0.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A task in the register.

    `seq` grows in the order of arrival, `input` is encoded as the agent took it, `given` is a hash
    of it as it came (of tasks of versions before it is not known), and `token` is that of the
    gateway that has the task, where several share the journal.
    """

    seq: int
    task_id: str
    caller: str
    agent: str
    input: bytes
    created_at: float
    status: Status
    given: str | None = None
    end: End | None = None
    token: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are asked for: all of some caller, agent, status, before some number."""

    caller: str | None = None
    agent: str | None = None
    status: Status | None = None
    before: int | None = None
    limit: int = 20


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """A task that has not ended here; `record` tells how it ended in the journal, if it has."""

    entry: Entry
    record: TaskRecord | None = None


class Register(Protocol):
    """The register of tasks; used from one event loop.

    What writes raises `JournalError` where it cannot be written.
    """

    @property
    def lease(self) -> Lease | None:
        """Says which tasks are this gateway's; None where all are."""
        ...

    async def add(self, entry: Entry, idempotency: str | None) -> Entry:
        """Take a task in, here and in the journal, and return it.

        Where the caller had asked before with this key it is that one that is returned, and none
        is taken in.

        Args:
            entry: the task; its `seq` is not looked at.
            idempotency: the caller's key for it; None where it has none.
        """
        ...

    async def with_key(self, caller: str, idempotency: str) -> Entry | None:
        """Return the task that a caller asked for with an idempotency key; None where none was."""
        ...

    async def begun(self, task_id: str) -> None:
        """Note that a task is under way."""
        ...

    async def ended(self, task_id: str, status: Status, end: End, wall_s: float) -> None:
        """Note how a task ended, and at what time of day."""
        ...

    async def cancel(self, task_id: str) -> None:
        """Ask the gateway that has a task to cancel it."""
        ...

    async def get(self, task_id: str) -> Entry | None:
        """Return a task; None where there is none."""
        ...

    def left(self) -> list[str]:
        """Return the ids of tasks that this gateway's last start has left, oldest first."""
        ...

    async def unfinished(self, task_ids: list[str]) -> list[Unfinished]:
        """Return those of some tasks that have not ended, in the order of their arrival."""
        ...

    async def page(self, asked: Asked) -> list[Entry]:
        """Return up to `limit` tasks, newest first."""
        ...

    async def forget(self, wall_s: float, limit: int) -> int:
        """Drop up to `limit` tasks that ended before a time; return how many."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class SqliteRegister:
    """The register of a gateway with a journal of its own.

    A task is in it before it is in the journal, and has ended in the journal before it has in the
    register, so that after a kill at any moment the one can be mended by the other. Tasks that come
    together are taken in together, by one commit here and one there.

    Args:
        folder: the gateway's, which must exist.
        journal: of the gateway.

    Raises:
        InputError: the file is no register.
    """

    lease = None

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._path, self._journal = folder / NAME, journal
        # Apart, so that one that is taken in need not wait for those that begin and end meanwhile.
        self._adds: Commits[tuple[Entry, str | None]] = Commits(self._added)
        self._notes: Commits[Write] = Commits(self._noted)
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_S)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            columns = {name for _, name, *_ in self._db.execute("PRAGMA table_info(task)")}
            for name in _LATER.keys() - columns:
                self._db.execute(f"ALTER TABLE task ADD COLUMN {name} {_LATER[name]}")
            self._db.executescript(_INDEXES)
        except sqlite3.DatabaseError as error:
            raise InputError(f"not a register: {error}", where=str(self._path)) from error

    def close(self) -> None:
        """Commit what waits, and close the database."""
        self._adds.finish()
        self._notes.finish()
        self._db.close()

    async def add(self, entry: Entry, idempotency: str | None) -> Entry:
        """Take a task in, unless the caller had asked for it before; return it, or that one."""
        await self._adds.write((entry, idempotency))
        if idempotency is not None:
            return await self.with_key(entry.caller, idempotency) or entry
        return entry

    def _added(self, items: list[tuple[Entry, str | None]]) -> bool:
        """Take in those of some tasks that their callers had not asked for before.

        Raises:
            PolysiliconError: they cannot be kept; none is.
        """
        counts = self._written([(_ADD, _row(entry, key)) for entry, key in items])
        new = [entry for (entry, _), count in zip(items, counts, strict=True) if count]
        try:
            self._journal.accept(_unread(entry) for entry in new)
        except BaseException:  # one that is asked for again must be found in both, or in none
            task_ids = msgspec.json.encode([entry.task_id for entry in new]).decode()
            with suppress(JournalError):
                self._written([(f"DELETE FROM task WHERE {_NAMED}", (task_ids,))])  # noqa: S608
            raise
        return True

    async def with_key(self, caller: str, idempotency: str) -> Entry | None:
        """Return the task that a caller asked for with an idempotency key; None where none was."""
        sql = f"SELECT {_COLUMNS} FROM task WHERE caller = ? AND idempotency = ?"  # noqa: S608
        return next(self._entries(sql, caller, idempotency), None)

    async def begun(self, task_id: str) -> None:
        """Note that a task is under way."""
        await self._notes.write((_BEGUN, (task_id,)))

    async def ended(self, task_id: str, status: Status, end: End, wall_s: float) -> None:
        """Note how a task ended, and at what time of day."""
        data = msgspec.msgpack.encode(end)
        await self._notes.write((_ENDED, (status, data, wall_s, task_id)))

    def _noted(self, writes: list[Write]) -> bool:
        self._written(writes)
        return True

    async def cancel(self, task_id: str) -> None:
        """There is no other gateway that could have it."""

    async def get(self, task_id: str) -> Entry | None:
        """Return a task; None where there is none."""
        sql = f"SELECT {_COLUMNS} FROM task WHERE task_id = ?"  # noqa: S608
        return next(self._entries(sql, task_id), None)

    def left(self) -> list[str]:
        """Return the ids of the tasks that have not ended, oldest first."""
        sql = "SELECT task_id FROM task WHERE end IS NULL ORDER BY seq"
        return [task_id for (task_id,) in self._db.execute(sql)]

    async def unfinished(self, task_ids: list[str]) -> list[Unfinished]:
        """Return those of some tasks that have not ended; those the journal lacks, it gets."""
        # The plus keeps the planner from walking through all that have not ended.
        sql = f"SELECT {_COLUMNS} FROM task WHERE {_NAMED} AND end IS NULL ORDER BY +seq"  # noqa: S608
        found = list(self._entries(sql, msgspec.json.encode(task_ids).decode()))
        known = self._journal.known(task_ids)
        if lacking := [entry for entry in found if entry.task_id not in known]:
            self._journal.accept(_unread(entry) for entry in lacking)
        return [Unfinished(entry=entry, record=known.get(entry.task_id)) for entry in found]

    async def page(self, asked: Asked) -> list[Entry]:
        """Return up to `limit` tasks, newest first."""
        conditions = {
            "caller = ?": asked.caller,
            "agent = ?": asked.agent,
            "status = ?": asked.status,
            "seq < ?": asked.before,
        }
        told = {text: value for text, value in conditions.items() if value is not None}
        where = f"WHERE {' AND '.join(told)} " if told else ""
        sql = f"SELECT {_COLUMNS} FROM task {where}ORDER BY seq DESC LIMIT ?"  # noqa: S608
        return list(self._entries(sql, *told.values(), asked.limit))

    async def forget(self, wall_s: float, limit: int) -> int:
        """Drop up to `limit` tasks that ended before a time; return how many."""
        sql = (
            "SELECT task_id FROM task WHERE coalesce(ended_at, created_at) < ? "
            "AND end IS NOT NULL LIMIT ?"
        )
        task_ids = [task_id for (task_id,) in self._db.execute(sql, (wall_s, limit))]
        if not task_ids:
            return 0
        await asyncio.to_thread(self._journal.forget, 0, (), task_ids)
        sql = f"DELETE FROM task WHERE end IS NOT NULL AND {_NAMED}"  # noqa: S608
        self._written([(sql, (msgspec.json.encode(task_ids).decode(),))])
        return len(task_ids)

    def _entries(self, sql: str, *values: Any) -> Iterator[Entry]:
        for *columns, end in self._db.execute(sql, values):
            known = dict(zip(Entry.__struct_fields__, columns, strict=False))
            decoded = None if end is None else msgspec.msgpack.decode(end, type=End)
            yield Entry(**known, end=decoded)

    def _written(self, writes: list[Write]) -> list[int]:
        """Commit statements together; return how many rows each of them has changed.

        Raises:
            JournalError: they cannot be written.
        """
        try:
            if len(writes) == 1:  # which is a transaction of its own
                return [self._db.execute(*writes[0]).rowcount]
            with transaction(self._db):
                return [self._db.execute(*write).rowcount for write in writes]
        except sqlite3.Error as error:
            raise JournalError(f"cannot write {self._path}: {error}") from error


def _row(entry: Entry, idempotency: str | None) -> tuple[Any, ...]:
    """Return the values of `_ADD`."""
    return (entry.task_id, entry.caller, idempotency, entry.agent, entry.input, entry.created_at,
            entry.status, entry.given)  # fmt: skip


def _unread(entry: Entry) -> PendingTask:
    """Return a task as the journal takes it in; its input, which may be large, is not decoded."""
    value = msgspec.Raw(entry.input)
    return PendingTask(task_id=entry.task_id, agent=entry.agent, input=value)


def pending(entry: Entry) -> PendingTask:
    """Return a task as it is run."""
    value = msgspec.msgpack.decode(entry.input)
    return PendingTask(task_id=entry.task_id, agent=entry.agent, input=value)


def digest_of(idempotency: str | None) -> str | None:
    """Return what is kept of an idempotency key: a hash, for it may be long."""
    if idempotency is None:
        return None
    return hashlib.blake2b(idempotency.encode(errors="surrogatepass"), digest_size=16).hexdigest()
