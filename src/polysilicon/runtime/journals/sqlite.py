"""The journal of a run in one SQLite file of its folder: the default, with nothing to set up.

Group commit goes by the turns of the event loop (`commits.py`).

Durability: WAL with synchronous=NORMAL. What is committed survives the death of the process; the
last commits before a power cut may be lost, and then those steps run again. Results over
`_INLINE_BYTES` lie beside the database by content hash, on the disk before the row that names them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from polysilicon.errors import InputError
from polysilicon.runtime.journal import Committed, JournalError, PendingTask
from polysilicon.runtime.journals.blobs import Blobs
from polysilicon.runtime.journals.commits import Commits, transaction
from polysilicon.workload.record import StepRecord, TaskRecord

NAME = "journal.sqlite"
_INLINE_BYTES = 64 * 2**10
_BUSY_S = 60.0
"""How long another connection may hold the database before the run stops."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS task (
    task_id TEXT PRIMARY KEY, agent TEXT NOT NULL, input BLOB NOT NULL, record BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS step (
    seq INTEGER PRIMARY KEY, task_id TEXT NOT NULL, step_id TEXT NOT NULL, record BLOB NOT NULL,
    result BLOB, UNIQUE (task_id, step_id)
);
CREATE INDEX IF NOT EXISTS large ON step (result) WHERE substr(result, 1, 1) = x'01';
"""
_ROWS = "step (task_id, step_id, record, result) VALUES (?, ?, ?, ?)"
# OR REPLACE: a step that was marked as begun, or whose blob was lost and that ran again.
_END_STEP = f"INSERT OR REPLACE INTO {_ROWS}"
_BEGIN_STEP = f"INSERT OR IGNORE INTO {_ROWS}"
_ENDED = "SELECT seq, record FROM step WHERE seq > ? AND result IS NOT NULL ORDER BY seq LIMIT ?"
# The plus keeps the planner from walking through the steps of all tasks.
_ENDED_OF_TASK = """
SELECT seq, record FROM step WHERE task_id = ? AND +seq > ? AND result IS NOT NULL
ORDER BY seq LIMIT ?
"""
_OLD = """
FROM step WHERE seq <= ? AND result IS NOT NULL
AND task_id NOT IN (SELECT value FROM json_each(?))
"""
_LARGE = "substr(result, 1, 1) = x'01'"
_NAMED = f"SELECT 1 FROM step WHERE result = ? AND {_LARGE} LIMIT 1"  # noqa: S608
_FORGET_TASKS = """
DELETE FROM task WHERE record IS NOT NULL AND task_id IN (SELECT value FROM json_each(?))
"""
_KNOWN_TASKS = "SELECT task_id, record FROM task WHERE task_id IN (SELECT value FROM json_each(?))"
_END_TASK = "UPDATE task SET record = ? WHERE task_id = ? AND record IS NULL"

_encode = msgspec.msgpack.Encoder().encode
_step_decoder = msgspec.msgpack.Decoder(StepRecord)
_task_decoder = msgspec.msgpack.Decoder(TaskRecord)

Write = tuple[str, tuple[Any, ...]]
"""A statement and its values."""


class SqliteJournal:
    """The `Journal` in SQLite.

    Args:
        folder: the run's folder, which must exist.
        follows: only to read what another process writes; from any thread, one at a time.

    Raises:
        InputError: the file is no journal.
    """

    def __init__(self, folder: Path, *, follows: bool = False) -> None:
        self._path = folder / NAME
        self._blobs = Blobs(folder / "blobs")
        self._commits: Commits[Write] = Commits(self._committed)
        self._busy_since_s: float | None = None
        try:
            if follows:
                address = f"file:{quote(str(self._path))}?mode=ro"
                self._db = sqlite3.connect(address, uri=True, check_same_thread=False)
                self.run = self._known()
                return
            self._blobs.clean()
            self._db = sqlite3.connect(self._path, isolation_level=None)
            with self._patient():
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self.run = self._made()
                self._sweep()
        except sqlite3.OperationalError as error:
            raise InputError(f"cannot be opened: {error}", where=str(self._path)) from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"not a journal: {error}", where=str(self._path)) from error

    def _made(self) -> str:
        """Make what is not there, and return the id of the run."""
        with transaction(self._db):
            columns = [row[1] for row in self._db.execute("PRAGMA table_info(step)")]
            before = bool(columns) and "seq" not in columns
            if before:  # as version 0.1.0 wrote it
                self._db.execute("ALTER TABLE step RENAME TO step_0")
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            if before:
                names = "task_id, step_id, record, result"
                self._db.execute(f"INSERT INTO step ({names}) SELECT {names} FROM step_0")  # noqa: S608
                self._db.execute("DROP TABLE step_0")
            new = "INSERT INTO run SELECT ? WHERE NOT EXISTS (SELECT 1 FROM run)"
            self._db.execute(new, (secrets.token_hex(8),))
        return self._known()

    def _sweep(self) -> None:
        """Remove results that a crash left when the steps that had named them were gone."""
        with suppress(OSError):
            for digest in self._blobs.digests():
                self._drop_unnamed(self._db, b"\x01" + digest)

    def _drop_unnamed(self, db: sqlite3.Connection, result: bytes) -> None:
        if not db.execute(_NAMED, (result,)).fetchone():
            self._blobs.drop(result[1:])

    def _known(self) -> str:
        return str(self._db.execute("SELECT id FROM run").fetchone()[0])

    @contextmanager
    def _patient(self) -> Iterator[None]:
        """Wait for a database that another connection holds; elsewhere the event loop must not."""
        self._db.execute(f"PRAGMA busy_timeout={_BUSY_S * 1000:.0f}")
        try:
            yield
        finally:
            self._db.execute("PRAGMA busy_timeout=0")

    def close(self) -> None:
        """Commit what waits, and close the database."""
        self._commits.finish()
        self._db.close()

    def _failure(self, error: Exception) -> JournalError:
        return JournalError.stopped(str(self._path), error, self._path.parent)

    def accept(self, tasks: Iterable[PendingTask]) -> int:
        """Take tasks, all or none, and return how many; known ones stay as they are."""
        count = 0
        try:
            with self._patient(), transaction(self._db):
                for task in tasks:
                    row = (task.task_id, task.agent, _encode(task.input))
                    self._db.execute("INSERT OR IGNORE INTO task VALUES (?, ?, ?, NULL)", row)
                    count += 1
        except sqlite3.Error as error:
            raise self._failure(error) from error
        return count

    def pending(self) -> list[PendingTask]:
        """Return the tasks that have not ended, in the order of their ids."""
        rows = self._rows("SELECT task_id, agent, input FROM task WHERE record IS NULL")
        decode = msgspec.msgpack.decode
        return [PendingTask(task_id=t, agent=a, input=decode(i)) for t, a, i in rows]

    def known(self, task_ids: Collection[str]) -> dict[str, TaskRecord | None]:
        """Return those of some tasks that were accepted: id → how it ended, None if it has not."""
        rows = self._rows(_KNOWN_TASKS, (json.dumps(list(task_ids)),))
        return {t: None if record is None else _task_decoder.decode(record) for t, record in rows}

    async def end_task(self, record: TaskRecord) -> None:
        """Keep how a task ended."""
        await self._commits.write((_END_TASK, (_encode(record), record.task_id)))

    async def begin_step(self, record: StepRecord) -> None:
        """Mark that a step is about to have effects outside."""
        row = (record.task_id, record.step_id, _encode(record), None)
        await self._commits.write((_BEGIN_STEP, row))

    async def end_step(self, record: StepRecord, result: bytes) -> None:
        """Keep a step that ended, with its encoded result."""
        if len(result) > _INLINE_BYTES:
            try:
                digest = await asyncio.to_thread(self._blobs.keep, result)
            except OSError as error:
                raise self._failure(error) from error
            kept = b"\x01" + digest
        else:
            kept = b"\x00" + result
        row = (record.task_id, record.step_id, _encode(record), kept)
        await self._commits.write((_END_STEP, row))

    def _committed(self, writes: list[Write]) -> bool:
        """Commit the writes together, or return False where another connection holds the database.

        Raises:
            JournalError: they cannot be written, or it has been held for long.
        """
        try:
            if len(writes) == 1:
                self._db.execute(*writes[0])
            else:
                by_statement: dict[str, list[tuple[Any, ...]]] = {}
                for sql, values in writes:
                    by_statement.setdefault(sql, []).append(values)
                with transaction(self._db):
                    for sql, rows in by_statement.items():
                        self._db.executemany(sql, rows)
        except sqlite3.Error as error:
            if _is_busy(error) and self._may_wait():
                return False
            raise self._failure(error) from error
        self._busy_since_s = None
        return True

    def _may_wait(self) -> bool:
        """Tell whether the database has been held by another connection for a short time only."""
        now_s = time.monotonic()
        if self._busy_since_s is None:
            self._busy_since_s = now_s
        return now_s - self._busy_since_s < _BUSY_S

    async def history(self, task_id: str) -> dict[str, tuple[StepRecord, bytes]]:
        """Return the steps of a task that ended: step id → record and encoded result."""
        sql = "SELECT step_id, record, result FROM step WHERE task_id = ? AND result IS NOT NULL"
        history = {}
        for step_id, record, result in self._rows(sql, (task_id,)):
            data = self._blobs.read(result[1:]) if result[:1] == b"\x01" else result[1:]
            if data is None:
                continue  # the result is gone, so the step must run again
            history[step_id] = (_step_decoder.decode(record), data)
        return history

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query.

        Raises:
            InputError: the database is damaged.
        """
        try:
            yield from self._db.execute(sql, values)
        except sqlite3.DatabaseError as error:
            raise InputError(f"the journal is damaged: {error}", where=str(self._path)) from error

    def steps(self) -> Iterator[StepRecord]:
        """Yield the records of steps that ended or began, in the order of commits."""
        for (record,) in self._rows("SELECT record FROM step ORDER BY seq"):
            yield _step_decoder.decode(record)

    def tasks(self) -> Iterator[TaskRecord]:
        """Yield the records of all tasks that ended."""
        sql = "SELECT record FROM task WHERE record IS NOT NULL ORDER BY task_id"
        for (record,) in self._rows(sql):
            yield _task_decoder.decode(record)

    def ended(self, after: int, limit: int, task_id: str | None = None) -> list[Committed]:
        """Return up to `limit` steps that ended and were committed after number `after`.

        They are those of all tasks, or of `task_id`.
        """
        if task_id is None:
            rows = self._rows(_ENDED, (after, limit))
        else:
            rows = self._rows(_ENDED_OF_TASK, (task_id, after, limit))
        return [Committed(seq=seq, record=_step_decoder.decode(record)) for seq, record in rows]

    async def ended_of(self, task_id: str, after: int, limit: int) -> list[Committed]:
        """Return what `ended` does of one task."""
        return self.ended(after, limit, task_id)

    def forget(self, through: int, keep: Collection[str], tasks: Collection[str]) -> None:
        """Drop steps that ended, up to number `through`, and of `tasks` those that ended.

        The file does not shrink; what comes next takes the room. A connection of its own waits for
        another writer, and those of the run's loop come again meanwhile, as for any other.
        """
        which = (through, json.dumps(list(keep)))
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)) as db:
                with transaction(db):
                    large = db.execute(f"SELECT DISTINCT result {_OLD} AND {_LARGE}", which)
                    digests = [result for (result,) in large]
                    db.execute(f"DELETE {_OLD}", which)
                    db.execute(_FORGET_TASKS, (json.dumps(list(tasks)),))
                for result in digests:
                    self._drop_unnamed(db, result)
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def compact(self) -> None:
        """Drop the results, and give the disk back what they took."""
        # Where the disk is too full even for that, the run is no less finished.
        with suppress(sqlite3.Error), self._patient():
            self._db.execute("UPDATE step SET result = x'' WHERE length(result) > 0")
            self._db.execute("VACUUM")
            self._blobs.clear()


def _is_busy(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_BUSY
