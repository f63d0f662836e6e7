"""The journal that several gateways share in one PostgreSQL database.

Each of them has a lease, and writes under its token: every transaction checks it, and holds it to
its end, so that a gateway that was taken for dead, and comes back, can write nothing of the tasks
that others have taken.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime.journal import JournalError, LeaseLostError
from polysilicon.runtime.journals import shared_statements as shared
from polysilicon.runtime.journals import statements as sql
from polysilicon.runtime.journals.lease import Lease, connected, held, holding
from polysilicon.runtime.journals.postgres import AWAY_S, PostgresJournal, fetched, settle

T = TypeVar("T")
_LOOK_S = 0.05
_LEASE = "lease"
"""File of the folder that has the token."""


class SharedJournal(PostgresJournal):
    """The `Journal` of a gateway that shares it with others.

    Args:
        folder: the gateway's own.
        address: `postgresql://…`.
        term_s: of the lease.
        known: the id of the journal that the folder shared before; None where it shared none.

    Attributes:
        lease: the gateway's part in it, which `begin` takes.

    Raises:
        InputError: the database cannot be reached, its tables cannot be made, or its journal is
            another than the known one.
    """

    _end_step = sql.END_STEP_ONCE

    def __init__(self, folder: Path, address: str, term_s: float, known: str | None = None) -> None:
        self._term_s = term_s
        super().__init__(folder, address, None)
        if known not in (None, self.run):
            self._connection.close()
            what = "this folder shares another journal than the database has"
            mend = "give the address of that one, or another --folder"
            raise InputError(what, where=str(folder), mend=mend)
        try:
            self.begin_s = time.monotonic() - self._now_s()
            name = f"{socket.gethostname()}:{folder.resolve()}"
            kept = folder / _LEASE
            self.lease = Lease(self._address, self.run, name, term_s=term_s, kept=kept)
        except psycopg.Error as error:
            self._connection.close()
            what = f"cannot open the journal: {self._address.safe(error)}"
            raise InputError(what, where=self.address) from None

    def begin(self) -> None:
        """Take the lease, without which only reading is allowed.

        Raises:
            InputError: the database cannot be reached.
        """
        try:
            self.lease.begin()
        except psycopg.Error as error:
            what = f"the lease cannot be had: {self._address.safe(error)}"
            raise InputError(what, where=self.address) from None

    def _make(self) -> None:
        """Find what the gateways of this database share; the first one makes it."""
        self._connection.execute(shared.SCHEMA)
        made = self._connection.execute(shared.NEW_SHARED, (secrets.token_hex(8),)).rowcount
        self.run = self._connection.execute(shared.SHARED).fetchone()[0]
        if made:
            self._connection.execute(sql.NEW_RUN, (self.run, "gateways"))

    def _connect(self) -> Any:
        return connected(self._address, self._term_s)

    def _now_s(self) -> float:
        """Return seconds since the journal was made, by the database's clock."""
        found: float = self._connection.execute(shared.NOW, (self.run,)).fetchone()[0]
        return found

    def close(self) -> None:
        """Commit what waits, and end the lease."""
        super().close()
        self.lease.close()

    def _failure(self, error: Exception) -> PolysiliconError:
        if isinstance(error, LeaseLostError):
            return error
        if isinstance(error, psycopg.errors.DivisionByZero):  # see FENCE
            return LeaseLostError()
        text = self._address.safe(error)
        return JournalError(f"cannot write {self.address}: {text}; what was accepted is not lost")

    def _do(self, batch: list[Any]) -> None:
        """Commit what may still be written, then read what is to be read."""
        token = self.lease.token
        stale = [job for job in batch if job.token not in (None, token)]
        if stale:
            settle(stale, None, LeaseLostError())
        self._fencing = token
        super()._do([job for job in batch if job.token in (None, token)])

    def _fence(self, connection: Any, _jobs: list[Any]) -> None:
        connection.execute(shared.FENCE, (self._fencing,))

    async def _write(self, statement: str, row: tuple[Any, ...]) -> None:
        """Commit one row, under the token of its task; one of no task under any.

        Raises:
            LeaseLostError: its task has gone to another gateway.
        """
        token, until_s = held(), time.monotonic() + AWAY_S
        size_bytes = sum(len(value) for value in row if isinstance(value, str | bytes))
        while True:
            now = self.lease.token
            try:
                await self._job(statement, row, size_bytes, token)
            except LeaseLostError:
                self.lease.doubt()
                if token is not None or time.monotonic() > until_s:
                    raise
            else:
                if token is not None:
                    await self._certain(token, until_s)
                return
            await asyncio.to_thread(self.lease.renewed, now, until_s)

    async def _certain(self, token: int, until_s: float) -> None:
        """Go on only while the lease holds: this process may have been paused since the commit.

        Raises:
            LeaseLostError: it does not.
        """
        if not self.lease.healthy and not await asyncio.to_thread(self.lease.wait_healthy, until_s):
            raise self._failure(TimeoutError("the lease cannot be renewed"))
        if token != self.lease.token:
            raise LeaseLostError

    async def keep(self, statement: str, row: tuple[Any, ...]) -> None:
        """Commit one row of what the gateways share, with those that wait at once.

        Raises:
            LeaseLostError: it belongs to a task that has gone to another gateway.
        """
        await self._write(statement, row)

    async def keep_under(self, token: int, statement: str, row: tuple[Any, ...]) -> None:
        """Commit one row under a token, and under no later one.

        Raises:
            LeaseLostError: the lease of that token was lost; there may be a new one by now.
        """
        try:
            with holding(token):
                await self._write(statement, row)
        except LeaseLostError:
            await asyncio.sleep(_LOOK_S)
            raise

    def transact(self, work: Callable[[Any], T]) -> T:
        """Return `work(connection)`, which is done again where the connection was lost.

        Raises:
            PolysiliconError: the database refused, or was away for long.
        """
        return self._again(work)

    async def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query, the first value of which is the run."""

        def read(connection: Any) -> Any:
            return fetched(connection, statement, (self.run, *values))

        found: list[tuple[Any, ...]] = await self._job(None, read, 0)
        return found
