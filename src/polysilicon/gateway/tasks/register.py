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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from polysilicon.errors import InputError
from polysilicon.gateway.tasks.types import Status
from polysilicon.runtime.journal import Journal, JournalError, PendingTask
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
CREATE INDEX IF NOT EXISTS open_tasks ON task (seq) WHERE end IS NULL;
CREATE INDEX IF NOT EXISTS of_caller ON task (caller, seq);
"""
_COLUMNS = "seq, task_id, caller, agent, input, created_at, status, given, end"
_LATER = {"ended_at": "REAL", "given": "TEXT"}
"""Columns that registers of versions before have not."""
_BUSY_S = 10.0


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
        """Return the ids of tasks that this gateway's last start has left."""
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
    register, so that after a kill at any moment the one can be mended by the other.

    Args:
        folder: the gateway's, which must exist.
        journal: of the gateway.

    Raises:
        InputError: the file is no register.
    """

    lease = None

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._path, self._journal = folder / NAME, journal
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_S)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            columns = {name for _, name, *_ in self._db.execute("PRAGMA table_info(task)")}
            for name in _LATER.keys() - columns:
                self._db.execute(f"ALTER TABLE task ADD COLUMN {name} {_LATER[name]}")
        except sqlite3.DatabaseError as error:
            raise InputError(f"not a register: {error}", where=str(self._path)) from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    async def add(self, entry: Entry, idempotency: str | None) -> Entry:
        """Take a task in, unless the caller had asked for it before; return it, or that one."""
        cursor = self._write(
            "INSERT OR IGNORE INTO task (task_id, caller, idempotency, agent, input, created_at, "
            "status, given) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            entry.task_id, entry.caller, idempotency, entry.agent, entry.input, entry.created_at,
            entry.status, entry.given,
        )  # fmt: skip
        if not cursor.rowcount and idempotency is not None:
            return await self.with_key(entry.caller, idempotency) or entry
        self._journal.accept([pending(entry)])
        return entry

    async def with_key(self, caller: str, idempotency: str) -> Entry | None:
        """Return the task that a caller asked for with an idempotency key; None where none was."""
        sql = f"SELECT {_COLUMNS} FROM task WHERE caller = ? AND idempotency = ?"  # noqa: S608
        return next(self._entries(sql, caller, idempotency), None)

    async def begun(self, task_id: str) -> None:
        """Note that a task is under way."""
        self._write("UPDATE task SET status = 'in_progress' WHERE task_id = ?", task_id)

    async def ended(self, task_id: str, status: Status, end: End, wall_s: float) -> None:
        """Note how a task ended, and at what time of day."""
        data = msgspec.msgpack.encode(end)
        sql = "UPDATE task SET status = ?, end = ?, ended_at = ? WHERE task_id = ? AND end IS NULL"
        self._write(sql, status, data, wall_s, task_id)

    async def cancel(self, task_id: str) -> None:
        """There is no other gateway that could have it."""

    async def get(self, task_id: str) -> Entry | None:
        """Return a task; None where there is none."""
        sql = f"SELECT {_COLUMNS} FROM task WHERE task_id = ?"  # noqa: S608
        return next(self._entries(sql, task_id), None)

    def left(self) -> list[str]:
        """Return the ids of the tasks that have not ended."""
        sql = "SELECT task_id FROM task WHERE end IS NULL"
        return [task_id for (task_id,) in self._db.execute(sql)]

    async def unfinished(self, task_ids: list[str]) -> list[Unfinished]:
        """Return those of some tasks that have not ended; those the journal lacks, it gets."""
        if not task_ids:
            return []
        wanted = frozenset(task_ids)
        sql = f"SELECT {_COLUMNS} FROM task WHERE end IS NULL ORDER BY seq"  # noqa: S608
        found = [entry for entry in self._entries(sql) if entry.task_id in wanted]
        known = {task.task_id for task in self._journal.pending()}
        ended = {r.task_id: r for r in self._journal.tasks() if r.task_id in wanted}
        known |= ended.keys()
        self._journal.accept(pending(entry) for entry in found if entry.task_id not in known)
        return [Unfinished(entry=entry, record=ended.get(entry.task_id)) for entry in found]

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
        await asyncio.to_thread(self._journal.forget, 0, (), task_ids)
        self._write(
            "DELETE FROM task WHERE end IS NOT NULL AND "
            "task_id IN (SELECT value FROM json_each(?))",
            msgspec.json.encode(task_ids).decode(),
        )
        return len(task_ids)

    def _entries(self, sql: str, *values: Any) -> Iterator[Entry]:
        for *columns, end in self._db.execute(sql, values):
            known = dict(zip(Entry.__struct_fields__, columns, strict=False))
            decoded = None if end is None else msgspec.msgpack.decode(end, type=End)
            yield Entry(**known, end=decoded)

    def _write(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Commit one statement.

        Raises:
            JournalError: it cannot be written.
        """
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise JournalError(f"cannot write {self._path}: {error}") from error


def pending(entry: Entry) -> PendingTask:
    """Return a task as the journal takes it."""
    value = msgspec.msgpack.decode(entry.input)
    return PendingTask(task_id=entry.task_id, agent=entry.agent, input=value)


def digest_of(idempotency: str | None) -> str | None:
    """Return what is kept of an idempotency key: a hash, for it may be long."""
    if idempotency is None:
        return None
    return hashlib.blake2b(idempotency.encode(errors="surrogatepass"), digest_size=16).hexdigest()
