"""What gateways that share a journal tell each other: what keys have spent, and what is forgotten.

A key's budget holds at all of them, but for what the others spent in the last second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import takewhile
from typing import Any

import msgspec

from polysilicon.gateway.access import Access
from polysilicon.gateway.retention import Forgotten
from polysilicon.gateway.totals import Totals
from polysilicon.runtime.journal import LeaseLostError
from polysilicon.runtime.journals import shared_statements as sql
from polysilicon.runtime.journals.shared import SharedJournal
from polysilicon.workload.record import StepRecord

_PAGE = 1000
_step_decoder = msgspec.msgpack.Decoder(StepRecord)
_forgotten_decoder = msgspec.msgpack.Decoder(Forgotten)


class Spending:
    """Tells what callers spend here, and learns what they spend elsewhere.

    Args:
        journal: that the gateways share.
        access: the callers.
    """

    def __init__(self, journal: SharedJournal, access: Access) -> None:
        self._journal, self._access = journal, access
        self._token = journal.lease.token
        self._told: dict[tuple[str, str], float] = {}

    async def exchange(self) -> None:
        """Tell and learn.

        Raises:
            PolysiliconError: the database cannot be written.
        """
        token, callers = self._journal.lease.token, self._access.callers
        for caller in callers:
            caller.renew()
        if token != self._token:  # what was told under the lost one counts with the others now
            for caller in callers:
                caller.spent_usd -= self._told.get((caller.name, caller.period), 0.0)
            self._told, self._token = {}, token
        now = {(caller.name, caller.period): caller.spent_usd for caller in callers}
        new = {key: usd for key, usd in now.items() if usd != self._told.get(key, 0.0)}
        try:
            await asyncio.gather(*(
                self._journal.keep_under(token, sql.SPEND, (*key, token, usd))
                for key, usd in new.items()
            ))  # fmt: skip
        except LeaseLostError:
            return  # the next time tells it under the new one
        self._told |= new
        rows = await self._journal.rows(sql.SPENT_ELSEWHERE, token)
        elsewhere = {(key, period): usd for key, period, usd in rows}
        for caller in callers:
            caller.elsewhere_usd = elsewhere.get((caller.name, caller.period), 0.0)


class SharedRetention:
    """Lets a shared journal forget, as `Retention` does one of a gateway's own.

    What is dropped and its sums are one transaction, of one gateway at a time.

    Args:
        journal: that the gateways share.

    Attributes:
        totals: of all that was forgotten when this gateway started.
        until_s: unused; the clock goes on by itself.
    """

    def __init__(self, journal: SharedJournal) -> None:
        self._journal = journal
        self.totals, self.until_s = Totals(), 0.0
        self.totals.include(journal.transact(self._known).groups)

    def _known(self, connection: Any) -> Forgotten:
        row = connection.execute(sql.FORGOTTEN, (self._journal.run,)).fetchone()
        if row is None:
            return Forgotten(through=0, kept=[], until_s=0.0, groups=[])
        return _forgotten_decoder.decode(row[0])

    async def forget(
        self, before_s: float, now_s: float, *, excess: int, kept: Collection[str]
    ) -> None:
        """Forget the steps that ended before a time, of tasks that have ended, a page at a time.

        Args:
            before_s: until when steps ended that go.
            now_s: by the same clock.
            excess: of no account; a database has room of its own.
            kept: of no account; the database knows which tasks have not ended.

        Raises:
            PolysiliconError: it cannot be written.
        """
        del excess, kept

        def page(connection: Any) -> int:
            run = self._journal.run
            with connection.transaction():
                connection.execute(sql.ONE_FORGETS, (run,))
                rows = connection.execute(sql.OLDEST, (run, 0, _PAGE), binary=True).fetchall()
                steps = ((seq, _step_decoder.decode(record)) for seq, record in rows)
                old = list(takewhile(lambda step: (step[1].end_s or 0.0) < before_s, steps))
                if not old:
                    return 0
                totals = Totals()
                totals.include(self._known(connection).groups)
                for _, record in old:
                    totals.add(record)
                told = Forgotten(through=old[-1][0], kept=[], until_s=now_s,
                                 groups=list(totals.by_group.items()))  # fmt: skip
                connection.execute(sql.FORGET_STEPS, (run, [seq for seq, _ in old]))
                connection.execute(sql.KEEP_FORGOTTEN, (run, msgspec.msgpack.encode(told)))
                return len(old)

        while await asyncio.to_thread(self._journal.transact, page) == _PAGE:
            pass
