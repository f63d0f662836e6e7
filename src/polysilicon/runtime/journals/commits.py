"""Commits to SQLite by the turns of the event loop: what comes in one turn is committed together.

A lone task commits at once and waits for nobody; when several write in one turn, they share one
transaction at the next, until one is alone again. A writer thread is slower: the two would take
turns at the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
LOOK_S = 0.01


class Commits(Generic[Item]):
    """What several tasks of one event loop write, in the order in which it comes.

    Args:
        commit: writes items in one transaction, or returns False where that may be tried again
            soon. What it raises is told to all who wait for those items.
    """

    def __init__(self, commit: Callable[[list[Item]], bool]) -> None:
        self._commit = commit
        self._waiting: list[tuple[Item, asyncio.Future[None]]] = []
        self._turn_of: asyncio.Task[Any] | None = None
        self._crowded = False

    async def write(self, item: Item) -> None:
        """Commit one item, alone or with those that come in the same turn."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if self._turn_of is None:
            self._turn_of = task
            loop.call_soon(self._next_turn)
        alone = task is self._turn_of and not self._waiting and not self._crowded
        if alone and self._commit([item]):
            return
        future = loop.create_future()
        self._waiting.append((item, future))
        if len(self._waiting) == 1:
            loop.call_soon(self.finish)
        await future

    def _next_turn(self) -> None:
        self._turn_of = None

    def finish(self) -> None:
        """Commit all that wait, or come again soon where that is not possible now."""
        if not self._waiting:
            return
        failure: Exception | None = None
        try:
            if not self._commit([item for item, _ in self._waiting]):
                asyncio.get_running_loop().call_later(LOOK_S, self.finish)
                return
        except Exception as error:  # noqa: BLE001 - or those who wait would wait for ever
            failure = error
        waiting, self._waiting = self._waiting, []
        self._crowded = len(waiting) > 1
        for _, future in waiting:
            if future.done():
                continue  # cancelled; what it wrote is kept all the same
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done within, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
