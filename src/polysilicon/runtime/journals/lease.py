"""The lease of a gateway on a shared journal: who is alive, by the database's clock.

A thread with a connection of its own renews the lease, so that neither a busy event loop nor a
commit on its way lets it end. A gateway whose lease has ended loses its tasks to the next that
looks: the row of its token is removed, and with it the right to write. Such a gateway registers
anew, under a token that is greater than all before.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from polysilicon.disk import write_whole
from polysilicon.errors import PolysiliconError
from polysilicon.runtime.journals import shared_statements as sql
from polysilicon.runtime.journals.address import Address

_BEATS = 4
"""Beats in the term of a lease."""

_log = logging.getLogger("polysilicon.gateway")
_held: ContextVar[int | None] = ContextVar("held", default=None)


@contextmanager
def holding(token: int) -> Iterator[None]:
    """Let what is written within, and by what is begun within, be written under a token only."""
    before = _held.set(token)
    try:
        yield
    finally:
        _held.reset(before)


def held() -> int | None:
    """Return the token that what is written now belongs to; None where any will do."""
    return _held.get()


@dataclass(frozen=True, slots=True)
class Duties:
    """What a lease tells, in the event loop of whoever serves.

    Attributes:
        agents: names of those whose tasks may be taken.
        taken: is told the ids of tasks that were taken.
        lost: is told that the lease was lost, when there is a new one.
        cancel: is told the ids of tasks of this gateway that are to be cancelled.
    """

    agents: Sequence[str]
    taken: Callable[[list[str]], None]
    lost: Callable[[], None]
    cancel: Callable[[list[str]], None]


class Lease:
    """A gateway's lease: once it has begun, it is renewed until it is closed.

    That of whoever served the same folder before is ended first of all: as there is one at a time,
    that process is gone.

    Args:
        address: of the database.
        run: what the gateways share.
        name: of the gateway, for people.
        term_s: seconds without a beat after which others may take the tasks.
        kept: file that has run and token, for whoever serves the same folder next.

    Attributes:
        token: of this gateway; it changes where the lease was lost. Before it has begun it is 0,
            which no gateway has.
    """

    def __init__(self, address: Address, run: str, name: str, *, term_s: float, kept: Path) -> None:
        self._address, self._run, self._name, self._term_s = address, run, name, term_s
        self._kept = kept
        self._connection = self._connected()
        if (before := _token_in(kept, run)) is not None:
            self._connection.execute(sql.RELEASE, (run, before))
        self.token = 0
        self._steady_s = self._beat_s = -math.inf
        self._duties: tuple[Duties, asyncio.AbstractEventLoop] | None = None
        self._wake, self._closing = threading.Event(), False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._beats, name="lease", daemon=True)

    def begin(self) -> None:
        """Register, and renew the lease from now on.

        Raises:
            psycopg.Error: the database is away.
        """
        try:
            token = self._registered()
        except psycopg.OperationalError:  # the connection was cut since it was made
            self._connection.close()
            self._connection = self._connected()
            token = self._registered()
        self._steady_s = self._beat_s = time.monotonic()
        self.token = token
        self._thread.start()

    def serve(self, duties: Duties) -> None:
        """Take tasks whose gateways are gone from now on; called in the event loop."""
        self._duties = duties, asyncio.get_running_loop()
        self._wake.set()

    def rest(self) -> None:
        """Take no more tasks."""
        self._duties = None

    def renewed(self, token: int, until_s: float) -> None:
        """Wait until there is another token than one that was lost, or `time.monotonic` comes."""
        with self._changed:
            self._changed.wait_for(lambda: self.token != token, until_s - time.monotonic())

    def wait_healthy(self, until_s: float) -> bool:
        """Wait until it is healthy, or `time.monotonic` comes; tell whether it is."""
        self._wake.set()
        with self._changed:
            return self._changed.wait_for(lambda: self.healthy, until_s - time.monotonic())

    def doubt(self) -> None:
        """Look at once whether the lease still holds; safe from any thread."""
        self._wake.set()

    @property
    def healthy(self) -> bool:
        """Whether it was renewed within its term."""
        return time.monotonic() - self._beat_s < self._term_s

    def give_up(self) -> None:
        """Renew the lease no more: when its term is over others may take the tasks."""
        self._closing = True
        self._wake.set()

    def close(self) -> None:
        """End the lease: others may take the tasks at once."""
        self.give_up()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(psycopg.Error):  # then it ends with its term
            self._connection.execute(sql.RELEASE, (self._run, self.token))
        self._connection.close()

    def _connected(self) -> Any:
        return connected(self._address, self._term_s)

    def _registered(self) -> int:
        row = self._connection.execute(sql.REGISTER, (self._run, self._name, self._term_s))
        token: int = row.fetchone()[0]
        with suppress(PolysiliconError):  # then the next one waits for the end of the term
            write_whole(self._kept, f"{self._run} {token}\n".encode())
        return token

    def _beats(self) -> None:
        """Beat until closed, in a thread."""
        away = False
        while True:
            self._wake.wait(self._term_s / _BEATS)
            self._wake.clear()
            if self._closing:
                return
            try:
                if self._connection.closed:
                    self._connection = self._connected()
                self._beat()
                away = False
            except psycopg.Error as error:
                if not away:
                    _log.error("the lease cannot be renewed: %s", self._address.safe(error))
                away = True
                self._connection.close()

    def _beat(self) -> None:
        """Renew the lease, take what is left behind, and look what is to be cancelled."""
        now_s = time.monotonic()  # before, so that the database's term ends after this one's
        renewed = self._connection.execute(sql.BEAT, (self._term_s, self.token)).fetchone()
        if renewed is None or now_s - self._beat_s > self._term_s:
            # After a pause, or an outage of the database, others are given a term to come back.
            self._steady_s = now_s
        lost = self.token
        token = self._registered() if renewed is None else lost
        with self._changed:
            self.token, self._beat_s = token, now_s
            self._changed.notify_all()
        if renewed is None:
            _log.error("the lease was lost (token %d, now %d): its tasks are dropped here, and go "
                       "on elsewhere", lost, token)  # fmt: skip
        if (given := self._duties) is None:  # read once: `rest` comes from another thread
            return
        duties, loop = given
        if renewed is None:
            _tell(loop, duties.lost)
        if taken := self._take(duties, ending=now_s - self._steady_s >= self._term_s):
            _tell(loop, duties.taken, taken)
        cancels = self._connection.execute(sql.CANCELS, (self._run, self.token)).fetchall()
        if cancels:
            _tell(loop, duties.cancel, [task_id for (task_id,) in cancels])

    def _take(self, duties: Duties, *, ending: bool) -> list[str]:
        """Take the tasks of gateways that are gone; return their ids.

        Args:
            duties: tell which.
            ending: leases whose term is over may be ended.
        """
        connection, ended = self._connection, []
        with connection.transaction():
            # One at a time, or a task that another one takes just now could be taken from it.
            if not connection.execute(sql.ONE_TAKES, (self._run,)).fetchone()[0]:
                return []
            connection.execute(sql.FENCE, (self.token,))
            if ending:
                ended = connection.execute(sql.END_LEASES, (self._run, self.token)).fetchall()
            taking = (self.token, self._run, list(duties.agents))
            taken = [task_id for (task_id,) in connection.execute(sql.TAKE, taking)]
            if ended:
                connection.execute(sql.FOLD_SPENT, (self._run,))
        for token, name in ended:
            _log.warning("the lease of gateway %s (token %d) has ended", name, token)
        if taken:
            _log.warning("took over %d tasks (token %d)", len(taken), self.token)
        return taken


def connected(address: Address, term_s: float) -> Any:
    """Return a connection; the server ends it where it stands still within a transaction.

    Else a gateway that is paused there would hold the row of its lease, and nobody could end it.
    """
    connection = psycopg.connect(address.conninfo, autocommit=True)
    limit_ms = max(round(term_s * 1000), 1)
    connection.execute(f"SET idle_in_transaction_session_timeout = {limit_ms}")
    return connection


def _token_in(path: Path, run: str) -> int | None:
    """Return the token that a file has of a run; None where it has none."""
    try:
        named, token = path.read_text().split()
        return int(token) if named == run else None
    except (OSError, ValueError):
        return None


def _tell(loop: asyncio.AbstractEventLoop, told: Callable[..., None], *values: Any) -> None:
    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(told, *values)
