"""The register of tasks: what was asked by whom, and how it ended, in one SQLite file.

The journal has the steps, and is what a task goes on from; this has what the journal does not know:
callers, idempotency keys, the order of arrival. A task is in the register before it is in the
journal, and has ended in the journal before it has in the register, so that after a kill at any
moment the one can be mended by the other.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.errors import InputError
from polysilicon.gateway.tasks.types import Status
from polysilicon.runtime.journal import JournalError

NAME = "tasks.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL UNIQUE, caller TEXT NOT NULL,
    idempotency TEXT, agent TEXT NOT NULL, input BLOB NOT NULL, created_at REAL NOT NULL,
    status TEXT NOT NULL, end BLOB, ended_at REAL, UNIQUE (caller, idempotency)
);
CREATE INDEX IF NOT EXISTS open_tasks ON task (seq) WHERE end IS NULL;
CREATE INDEX IF NOT EXISTS of_caller ON task (caller, seq);
"""
_COLUMNS = "seq, task_id, caller, agent, input, created_at, status, end"
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
    """A task in the register; `seq` grows in the order of arrival, `input` is encoded."""

    seq: int
    task_id: str
    caller: str
    agent: str
    input: bytes
    created_at: float
    status: Status
    end: End | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are asked for: all of some caller, agent, status, before some number."""

    caller: str | None = None
    agent: str | None = None
    status: Status | None = None
    before: int | None = None
    limit: int = 20


class Register:
    """The register of one gateway; used from one thread.

    Args:
        folder: the gateway's, which must exist.

    Raises:
        InputError: the file is no register.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        try:
            self._db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_S)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            columns = {name for _, name, *_ in self._db.execute("PRAGMA table_info(task)")}
            if "ended_at" not in columns:  # a register of a version before
                self._db.execute("ALTER TABLE task ADD COLUMN ended_at REAL")
        except sqlite3.DatabaseError as error:
            raise InputError(f"not a register: {error}", where=str(self._path)) from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def add(self, entry: Entry, idempotency: str | None) -> Entry | None:
        """Take a task in; where the caller had asked for it before, return that one, and add none.

        Args:
            entry: the task; its `seq` is not looked at.
            idempotency: the caller's key for it; None where it has none.

        Raises:
            JournalError: it cannot be written.
        """
        cursor = self._write(
            "INSERT OR IGNORE INTO task (task_id, caller, idempotency, agent, input, created_at, "
            "status) VALUES (?, ?, ?, ?, ?, ?, ?)",
            entry.task_id, entry.caller, idempotency, entry.agent, entry.input, entry.created_at,
            entry.status,
        )  # fmt: skip
        return None if cursor.rowcount else self.with_key(entry.caller, idempotency)

    def with_key(self, caller: str, idempotency: str | None) -> Entry | None:
        """Return the task that a caller asked for with an idempotency key; None where none was."""
        sql = f"SELECT {_COLUMNS} FROM task WHERE caller = ? AND idempotency = ?"  # noqa: S608
        return next(self._entries(sql, caller, idempotency), None)

    def begun(self, task_id: str) -> None:
        """Note that a task is under way."""
        self._write("UPDATE task SET status = 'in_progress' WHERE task_id = ?", task_id)

    def ended(self, task_id: str, status: Status, end: End, wall_s: float) -> None:
        """Note how a task ended, and at what time of day.

        Raises:
            JournalError: it cannot be written.
        """
        data = msgspec.msgpack.encode(end)
        sql = "UPDATE task SET status = ?, end = ?, ended_at = ? WHERE task_id = ? AND end IS NULL"
        self._write(sql, status, data, wall_s, task_id)

    def get(self, task_id: str) -> Entry | None:
        """Return a task; None where there is none."""
        sql = f"SELECT {_COLUMNS} FROM task WHERE task_id = ?"  # noqa: S608
        return next(self._entries(sql, task_id), None)

    def open_tasks(self) -> list[Entry]:
        """Return the tasks that have not ended, in the order of their arrival."""
        sql = f"SELECT {_COLUMNS} FROM task WHERE end IS NULL ORDER BY seq"  # noqa: S608
        return list(self._entries(sql))

    def page(self, asked: Asked) -> list[Entry]:
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

    def ended_before(self, wall_s: float, limit: int) -> list[str]:
        """Return the ids of up to `limit` tasks that ended before a time."""
        sql = (
            "SELECT task_id FROM task WHERE coalesce(ended_at, created_at) < ? "
            "AND end IS NOT NULL LIMIT ?"
        )
        return [task_id for (task_id,) in self._db.execute(sql, (wall_s, limit))]

    def forget(self, task_ids: list[str]) -> None:
        """Drop tasks that have ended.

        Raises:
            JournalError: it cannot be written.
        """
        self._write(
            "DELETE FROM task WHERE end IS NOT NULL AND "
            "task_id IN (SELECT value FROM json_each(?))",
            msgspec.json.encode(task_ids).decode(),
        )

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


def digest_of(idempotency: str | None) -> str | None:
    """Return what is kept of an idempotency key: a hash, for it may be long."""
    if idempotency is None:
        return None
    return hashlib.blake2b(idempotency.encode(errors="surrogatepass"), digest_size=16).hexdigest()
