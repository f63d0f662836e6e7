"""The journal of runs in a PostgreSQL database that several machines share.

A thread writes: while one commit is on its way to the server's disk, all that comes meanwhile waits
for the next, which takes it all in one round trip. A lost connection is made again, with back-off,
and what was on its way is sent again; as every write is idempotent, it does not matter whether it
had arrived. An advisory lock keeps a run to one process, whatever the machine.

Durability: that of the server; with its defaults, a committed step survives a power cut.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psycopg

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime.journal import Committed, JournalError, PendingTask
from polysilicon.runtime.journals import statements as sql
from polysilicon.runtime.journals.address import Address
from polysilicon.workload.record import StepRecord, TaskRecord

T = TypeVar("T")
AWAY_S = 60.0
"""How long the server may be away before the run stops."""

_HELD_S = 10.0
"""How long the server may take to see that the process that had the run is dead."""

_BACKOFF_S = (0.05, 2.0)
_BATCH_BYTES = 16 * 2**20
_PAGE = 1000

# Its warnings tell of lost connections, which are made again or end the run with an error.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.decode
_step_decoder = msgspec.msgpack.Decoder(StepRecord)
_task_decoder = msgspec.msgpack.Decoder(TaskRecord)


@dataclass(frozen=True, slots=True)
class _Job:
    """A row to write, or (without a statement) something to read, and who waits for it."""

    statement: str | None
    work: Any
    size_bytes: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    token: int | None = None


class _HeldError(Exception):
    """Another process has the run."""


class PostgresJournal:
    """The `Journal` in PostgreSQL.

    Args:
        folder: the run's folder.
        address: `postgresql://…`.
        run: the run's id; None makes a new one.
        follows: only to read what another process writes.

    Raises:
        InputError: the database cannot be reached or has no such run, or the run is under way.
    """

    _end_step = sql.END_STEP

    def __init__(
        self, folder: Path, address: str, run: str | None, *, follows: bool = False
    ) -> None:
        self._folder, self._address, self._follows = folder, Address(address), follows
        self.address = self._address.public
        self.run = run or secrets.token_hex(8)
        self._connection: Any = None
        self._lock = threading.Lock()
        self._rng = random.SystemRandom()  # machines that wait for one server must not agree
        self._closing = threading.Event()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._open(new=run is None)

    def _open(self, *, new: bool) -> None:
        """Connect, and make what is not there."""
        try:
            until_s = time.monotonic() + _HELD_S
            while self._connection is None:
                try:
                    self._connection = self._connect()
                except _HeldError:
                    if time.monotonic() > until_s:
                        what = "this run is under way in another process"
                        raise InputError(what, where=str(self._folder)) from None
                    time.sleep(_BACKOFF_S[0])
            self._check_version()
            if new:
                with self._connection.transaction():
                    self._connection.execute(sql.ONE_AT_A_TIME)
                    self._connection.execute(sql.SCHEMA)
                    self._connection.execute(sql.NEW_VERSION, (sql.VERSION,))
                    self._make()
            known = self._connection.execute(sql.KNOWN_RUN, (self.run,)).fetchone()
        except psycopg.Error as error:
            if self._connection is not None:
                self._connection.close()
            what = f"cannot open the journal: {self._address.safe(error)}"
            raise InputError(what, where=self.address) from None
        if known is None:
            self._connection.close()
            what = f"this database has no journal of the run {self._folder.name}"
            raise InputError(what, where=self.address)

    def _check_version(self) -> None:
        """Raise `InputError` where the tables are of a version that came after this one."""
        if not self._connection.execute(sql.HAS_VERSION).fetchone()[0]:
            return
        found = self._connection.execute(sql.KNOWN_VERSION).fetchone()[0]
        if found is not None and found > sql.VERSION:
            self._connection.close()
            what = f"the journal's tables are of version {found}, this Polysilicon knows"
            mend = "upgrade Polysilicon, or give another database"
            raise InputError(f"{what} {sql.VERSION}", where=self.address, mend=mend)

    def _make(self) -> None:
        """Make what is new, in the transaction that makes the tables."""
        self._connection.execute(sql.NEW_RUN, (self.run, self._folder.name))

    def _connect(self) -> Any:
        """Return a connection that holds the run's lock."""
        connection = psycopg.connect(self._address.conninfo, autocommit=True)
        if not self._follows:
            row = connection.execute(sql.LOCK, (self.run,)).fetchone()
            if row is None or not row[0]:
                connection.close()
                raise _HeldError
        return connection

    def close(self) -> None:
        """Commit what waits, and close the connection."""
        self._closing.set()
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join()
        self._connection.close()

    def _failure(self, error: Exception) -> PolysiliconError:
        return JournalError.stopped(self.address, self._address.safe(error), self._folder)

    def _again(self, work: Callable[[Any], T]) -> T:
        """Return `work(connection)`; on a new connection again where the old one was lost.

        Raises:
            JournalError: the database refused, or was away for long.
        """
        until_s, back_off_s = None, _BACKOFF_S[0]
        with self._lock:
            while True:
                try:
                    if self._connection.closed:
                        self._connection = self._connect()
                    return work(self._connection)
                except (psycopg.Error, _HeldError) as error:
                    now_s = time.monotonic()
                    until_s = now_s + AWAY_S if until_s is None else until_s
                    if not self._connection.closed or now_s > until_s:
                        raise self._failure(error) from None
                if self._closing.wait(back_off_s * (0.5 + self._rng.random())):
                    raise JournalError.stopped(self.address, "the connection is lost", self._folder)
                back_off_s = min(2 * back_off_s, _BACKOFF_S[1])

    def accept(self, tasks: Iterable[PendingTask]) -> int:
        """Take tasks, all or none, and return how many; known ones stay as they are."""
        rows = [(task.task_id, task.agent, _encode(task.input)) for task in tasks]

        def work(connection: Any) -> None:
            with connection.transaction():
                for at in range(0, len(rows), _PAGE):
                    page = rows[at : at + _PAGE]
                    connection.execute(sql.ACCEPT, (self.run, *_columns(page)))

        self._again(work)
        return len(rows)

    def pending(self) -> list[PendingTask]:
        """Return the tasks that have not ended, in the order of their ids."""
        rows = self._pages(sql.PENDING, "")
        return [PendingTask(task_id=t, agent=a, input=_decode(i)) for t, a, i in rows]

    def known(self, task_ids: Collection[str]) -> dict[str, TaskRecord | None]:
        """Return those of some tasks that were accepted: id → how it ended, None if it has not."""
        values = (self.run, list(task_ids))
        rows = self._again(lambda connection: fetched(connection, sql.KNOWN_TASKS, values))
        return {t: None if record is None else _task_decoder.decode(record) for t, record in rows}

    async def end_task(self, record: TaskRecord) -> None:
        """Keep how a task ended."""
        await self._write(sql.END_TASK, (record.task_id, _encode(record)))

    async def begin_step(self, record: StepRecord) -> None:
        """Mark that a step is about to have effects outside."""
        await self._write(sql.BEGIN_STEP, (record.task_id, record.step_id, _encode(record), None))

    async def end_step(self, record: StepRecord, result: bytes) -> None:
        """Keep a step that ended, with its encoded result."""
        await self._write(self._end_step, (record.task_id, record.step_id, _encode(record), result))

    async def history(self, task_id: str) -> dict[str, tuple[StepRecord, bytes]]:
        """Return the steps of a task that ended: step id → record and encoded result."""

        def read(connection: Any) -> Any:
            return fetched(connection, sql.HISTORY, (self.run, task_id))

        rows = await self._job(None, read, 0)
        return {step: (_step_decoder.decode(record), result) for step, record, result in rows}

    async def ended_of(self, task_id: str, after: int, limit: int) -> list[Committed]:
        """Return what `ended` does of one task, without holding the event loop."""

        def read(connection: Any) -> Any:
            return fetched(connection, sql.ENDED, (self.run, after, task_id, task_id, limit))

        rows = await self._job(None, read, 0)
        return [Committed(seq=seq, record=_step_decoder.decode(record)) for seq, record in rows]

    async def _write(self, statement: str, row: tuple[Any, ...]) -> None:
        """Commit one row, with those that wait at once."""
        size_bytes = sum(len(value) for value in row if isinstance(value, str | bytes))
        await self._job(statement, row, size_bytes)

    async def _job(
        self, statement: str | None, work: Any, size_bytes: int, token: int | None = None
    ) -> Any:
        """Leave something to the writer's thread, and return what comes of it."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._serve, name="journal", daemon=True)
            self._writer.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put(_Job(statement, work, size_bytes, loop, future, token))
        return await future

    def _serve(self) -> None:
        """Do what comes, in a thread, until None comes."""
        more = True
        while more:
            job = self._jobs.get()
            if job is None:
                return
            batch, size_bytes = [job], job.size_bytes
            with suppress(queue.Empty):
                while size_bytes < _BATCH_BYTES:
                    job = self._jobs.get_nowait()
                    if job is None:
                        more = False
                        break
                    batch.append(job)
                    size_bytes += job.size_bytes
            self._do(batch)

    def _do(self, batch: list[_Job]) -> None:
        """Commit the writes of a batch together, then read what is to be read."""
        writes = [job for job in batch if job.statement is not None]
        reads = [job for job in batch if job.statement is None]
        if writes:
            settle(writes, *self._outcome(lambda connection: self._commit(connection, writes)))
        for job in reads:
            settle([job], *self._outcome(job.work))

    def _commit(self, connection: Any, jobs: list[_Job]) -> None:
        """Write rows in one transaction and, as far as the server goes along, in one round trip."""
        by_statement: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {}
        for job in jobs:
            # One statement cannot write the same row twice; the last one counts.
            key = job.work[: len(job.work) // 2]  # (task, record) or (task, step, record, result)
            by_statement.setdefault(job.statement or "", {})[key] = job.work
        with connection.pipeline(), connection.transaction():
            self._fence(connection, jobs)
            for statement, rows in by_statement.items():
                connection.execute(statement, (self.run, *_columns(list(rows.values()))))

    def _fence(self, connection: Any, jobs: list[_Job]) -> None:
        """Check, in the transaction, that these may write; a run's lock has done so."""

    def _outcome(self, work: Callable[[Any], Any]) -> tuple[Any, Exception | None]:
        try:
            return self._again(work), None
        except PolysiliconError as error:
            return None, error
        except Exception as error:  # noqa: BLE001 - or those who wait would wait for ever
            return None, self._failure(error)

    def _pages(self, statement: str, after: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query page by page; it takes run, key of the last row, and limit."""

        def read(connection: Any) -> Any:
            return fetched(connection, statement, (self.run, after, _PAGE))

        while rows := self._again(read):
            yield from rows
            after = rows[-1][0]

    def steps(self) -> Iterator[StepRecord]:
        """Yield the records of steps that ended or began, in the order of commits."""
        for _, record in self._pages(sql.STEPS, 0):
            yield _step_decoder.decode(record)

    def tasks(self) -> Iterator[TaskRecord]:
        """Yield the records of all tasks that ended."""
        for _, record in self._pages(sql.TASKS, ""):
            yield _task_decoder.decode(record)

    def ended(self, after: int, limit: int, task_id: str | None = None) -> list[Committed]:
        """Return up to `limit` steps that ended and were committed after number `after`.

        They are those of all tasks, or of `task_id`.
        """
        values = (self.run, after, task_id, task_id, limit)
        rows = self._again(lambda connection: fetched(connection, sql.ENDED, values))
        return [Committed(seq=seq, record=_step_decoder.decode(record)) for seq, record in rows]

    def forget(self, through: int, keep: Collection[str], tasks: Collection[str]) -> None:
        """Drop steps that ended, up to number `through`, and of `tasks` those that ended."""

        def forget(connection: Any) -> None:
            with connection.transaction():
                connection.execute(sql.FORGET_STEPS, (self.run, through, list(keep)))
                connection.execute(sql.FORGET_TASKS, (self.run, list(tasks)))

        self._again(forget)

    def compact(self) -> None:
        """Drop the results; the server's autovacuum gives the room back."""
        with suppress(JournalError):  # the run is no less finished
            self._again(lambda connection: connection.execute(sql.COMPACT, (self.run,)))


def fetched(connection: Any, statement: str, values: tuple[Any, ...]) -> Any:
    """Return the rows of a query, their bytes as bytes."""
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(statement, values).fetchall()


def _columns(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def settle(jobs: list[_Job], result: Any, failure: Exception | None) -> None:
    """Tell those who wait, in their own loop."""

    def tell() -> None:
        for job in jobs:
            if job.future.done():
                continue  # cancelled; what it wrote is kept all the same
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)

    with suppress(RuntimeError):  # the loop has ended, and nobody waits
        jobs[0].loop.call_soon_threadsafe(tell)
