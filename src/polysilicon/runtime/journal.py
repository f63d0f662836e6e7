"""The journal: what a run was asked, and every step that ended, in SQLite.

A step is in the journal before its result is used, so a run that was killed goes on from there: its
agents run again from their start, and steps that ended before give the journal's result. Results
over `_INLINE_BYTES` lie beside the database by content hash.

Durability: WAL with synchronous=NORMAL. What is committed survives the death of the process; the
last commits before a power cut may be lost, and then those steps run again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.workload.record import StepRecord, TaskRecord

_INLINE_BYTES = 64 * 2**10
_SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    task_id TEXT PRIMARY KEY, agent TEXT NOT NULL, input BLOB NOT NULL, record BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS step (
    task_id TEXT NOT NULL, step_id TEXT NOT NULL, record BLOB NOT NULL, result BLOB NOT NULL,
    PRIMARY KEY (task_id, step_id)
) WITHOUT ROWID;
"""

_encode = msgspec.msgpack.Encoder().encode
_step_decoder = msgspec.msgpack.Decoder(StepRecord)
_task_decoder = msgspec.msgpack.Decoder(TaskRecord)


class PendingTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that was accepted and has not ended."""

    task_id: str
    agent: str
    input: Any


class Journal:
    """The journal of one run; used from one thread.

    Args:
        folder: the run's folder, which must exist.

    Raises:
        InputError: the file is no journal.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sqlite"
        self._blobs = folder / "blobs"
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            raise InputError(f"cannot be opened: {error}", where=str(self.path)) from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"not a journal: {error}", where=str(self.path)) from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _execute(self, sql: str, values: tuple[Any, ...]) -> None:
        """Run one statement; every failure, such as a full disk, becomes one line."""
        try:
            self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> PolysiliconError:
        return JournalError(
            f"cannot write {self.path}: {error}; nothing that ended is lost: "
            f"free what is short and go on with `polysilicon run --resume {self.path.parent}`"
        )

    def accept(self, tasks: Iterable[PendingTask]) -> int:
        """Take tasks, all or none, and return how many; known ones stay as they are."""
        count = 0
        try:
            self._db.execute("BEGIN")
            for task in tasks:
                row = (task.task_id, task.agent, _encode(task.input))
                self._db.execute("INSERT OR IGNORE INTO task VALUES (?, ?, ?, NULL)", row)
                count += 1
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failure(error) from error
            raise
        return count

    def pending(self) -> list[PendingTask]:
        """Return the tasks that have not ended, in the order of their ids."""
        rows = self._rows("SELECT task_id, agent, input FROM task WHERE record IS NULL")
        decode = msgspec.msgpack.decode
        return [PendingTask(task_id=t, agent=a, input=decode(i)) for t, a, i in rows]

    def end_task(self, record: TaskRecord) -> None:
        """Keep how a task ended."""
        self._execute(
            "UPDATE task SET record = ? WHERE task_id = ?", (_encode(record), record.task_id)
        )

    def end_step(self, record: StepRecord, result: bytes) -> None:
        """Keep a step that ended, with its encoded result."""
        if len(result) > _INLINE_BYTES:
            result = b"\x01" + self._keep_blob(result)
        else:
            result = b"\x00" + result
        row = (record.task_id, record.step_id, _encode(record), result)
        # OR REPLACE: a step whose blob was lost ran again.
        self._execute("INSERT OR REPLACE INTO step VALUES (?, ?, ?, ?)", row)

    def _keep_blob(self, data: bytes) -> bytes:
        """Write `data` to a file named by its hash, and return the hash."""
        digest = _digest(data)
        target = self._blobs / digest.decode()
        try:
            self._blobs.mkdir(exist_ok=True)
            part = target.with_suffix(".part")
            part.write_bytes(data)
            part.replace(target)
        except OSError as error:
            raise self._failure(error) from error
        return digest

    def history(self, task_id: str) -> dict[str, tuple[StepRecord, bytes]]:
        """Return the steps of a task that ended: step id → record and encoded result."""
        sql = "SELECT step_id, record, result FROM step WHERE task_id = ?"
        history = {}
        for step_id, record, result in self._rows(sql, (task_id,)):
            data = self._blob(result[1:]) if result[:1] == b"\x01" else result[1:]
            if data is None:
                continue  # the result is gone, so the step must run again
            history[step_id] = (_step_decoder.decode(record), data)
        return history

    def _blob(self, digest: bytes) -> bytes | None:
        """Return a large result, or None where its file is gone or is not what it was."""
        try:
            data = (self._blobs / digest.decode()).read_bytes()
        except OSError:
            return None
        return data if _digest(data) == digest else None

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query.

        Raises:
            InputError: the database is damaged.
        """
        try:
            yield from self._db.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise InputError(f"the journal is damaged: {error}", where=str(self.path)) from error

    def steps(self) -> Iterator[StepRecord]:
        """Yield the records of all steps that ended, by task."""
        for (record,) in self._rows("SELECT record FROM step ORDER BY task_id, step_id"):
            yield _step_decoder.decode(record)

    def tasks(self) -> Iterator[TaskRecord]:
        """Yield the records of all tasks that ended."""
        sql = "SELECT record FROM task WHERE record IS NOT NULL ORDER BY task_id"
        for (record,) in self._rows(sql):
            yield _task_decoder.decode(record)

    def last_end_s(self) -> float:
        """Return the latest moment that the journal knows of, seconds since the run began."""
        ends = [record.end_s or 0.0 for record in self.steps()]
        ends += [record.end_s for record in self.tasks()]
        return max(ends, default=0.0)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).hexdigest().encode()


class JournalError(PolysiliconError):
    """The journal cannot be written: the run stops, so that no unjournaled result is used."""
