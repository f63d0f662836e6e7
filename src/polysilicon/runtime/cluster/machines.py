"""The executor of a pool on a cluster: its machines, as they come and go, and who does what."""

from __future__ import annotations

import asyncio
import itertools
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from ray.exceptions import RayError

from polysilicon.catalog.fleet import Pool
from polysilicon.errors import InputError, LostError
from polysilicon.runtime.cluster.cluster import Cluster, Place
from polysilicon.runtime.cluster.line import Line, NotTakenError
from polysilicon.runtime.cluster.member import Member
from polysilicon.runtime.cluster.wire import Ended, Hello, Message, decode_hello, message_of
from polysilicon.runtime.jobs import Await, Done, Job, Lane
from polysilicon.runtime.types import OnToken

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.2, 30.0
_STABLE_S = 10.0
_PLACE_S = 600.0
"""So long an autoscaler may take to bring the first machine of a pool."""
_MOST_KEYS = 4096
_MOST_UNREACHED = 2
"""So many lines that cannot be opened are no accident, but the network's rules."""

_log = logging.getLogger("polysilicon.cluster")


class Machines:
    """The machines of a pool; an actor on each, made anew where one is lost.

    Args:
        cluster: that has them.
        pool: of the fleet; `units` is how many.

    Attributes:
        members: those that serve now.
        changed: called whenever one came or went.
    """

    def __init__(self, cluster: Cluster, pool: Pool) -> None:
        self.members: list[Member] = []
        self.changed: Callable[[], None] = lambda: None
        self._cluster, self._pool = cluster, pool
        self._numbers = itertools.count()
        self._moved = asyncio.Event()
        self._last: OrderedDict[bytes, Member] = OrderedDict()
        self._keeping: list[asyncio.Task[None]] = []
        self._fault: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._unreached = 0

    async def opened(self) -> Hello:
        """Ask for the machines, and wait until the first one serves; return what that is.

        Raises:
            InputError: it cannot serve.
        """
        self._keeping = [asyncio.create_task(self._keep()) for _ in range(self._pool.units)]
        told = asyncio.create_task(self._told_of_waiting())
        first = asyncio.create_task(self._first())
        try:
            either: list[asyncio.Future[Any]] = [first, self._fault]
            first_completed = asyncio.FIRST_COMPLETED
            await asyncio.wait(either, timeout=_PLACE_S, return_when=first_completed)
            if first.done():
                return first.result().hello
            where = f"pool {self._pool.name!r}"
            if self._fault.done():
                raise InputError(self._fault.result(), where=where)
            need = self._cluster.resource(self._pool.offer)
            mend = f"start one with: ray start --resources='{{\"{need}\": 1}}'"
            raise InputError("no node of the cluster holds its offer", where=where, mend=mend)
        finally:
            told.cancel()
            if not first.done():
                first.cancel()
                await self.close()

    async def _first(self) -> Member:
        """Wait for a machine that serves."""
        while not self.members:
            self._moved.clear()
            await self._moved.wait()
        return self.members[0]

    async def _told_of_waiting(self) -> None:
        """Say what is waited for, where that takes longer than to start an actor."""
        while True:
            await asyncio.sleep(_STABLE_S)
            need = self._cluster.resource(self._pool.offer)
            _log.warning("pool %s waits for a node with resource %s", self._pool.name, need)

    async def _keep(self) -> None:
        """Keep one machine serving: when it is lost, take another, or the same when it is back."""
        pause_s = _FIRST_PAUSE_S
        while True:
            begin_s = time.monotonic()
            place = self._cluster.place(self._pool)
            try:
                await self._served(place)
            except Exception as error:  # noqa: BLE001 - the next machine may be better
                _log.warning("pool %s: %s", self._pool.name, type(error).__name__)
            finally:
                self._cluster.leave(place)
            pause_s = _FIRST_PAUSE_S if time.monotonic() - begin_s > _STABLE_S else 2 * pause_s
            await asyncio.sleep(min(pause_s, _LAST_PAUSE_S))

    async def _served(self, place: Place) -> None:
        """Serve with one machine until it is lost."""
        hello = decode_hello(await place.actor.hello.remote())
        if hello.fault:
            _log.warning("pool %s: node %s: %s", self._pool.name, hello.node[:8], hello.fault)
            self._failed(hello.fault)
            return
        try:
            line = await Line.opened(hello.line, hello.word)
        except OSError as error:
            await place.actor.lives.remote()  # raises where it was lost: that is no unreached line
            why = str(error) or type(error).__name__
            what = f"node {hello.node[:8]} is not reached at {hello.line}: {why}"
            _log.warning("pool %s: %s", self._pool.name, what)
            self._unreached += 1
            if self._unreached >= _MOST_UNREACHED:
                self._failed(f"{what}; {_mend_of(error)}")
            return
        member = Member(place.actor, line, hello, self._moved.set)
        try:
            self.members.append(member)
            self._tell("node %s serves pool %s", member)
            reason = await member.gone
            self._tell(f"node %s is lost to pool %s: {reason}", member)
        finally:
            if member in self.members:
                self.members.remove(member)
            self._moved.set()
            self.changed()
            with suppress(RayError):
                await member.close()

    def _failed(self, fault: str) -> None:
        """Say why there is no first machine."""
        if not self._fault.done():
            self._fault.set_result(fault)

    def _tell(self, text: str, member: Member) -> None:
        if member.gone.done():
            self.members.remove(member)
        _log.info(text, member.hello.node[:8], self._pool.name)
        self._moved.set()
        self.changed()

    def number(self) -> int:
        """Return a number for a message."""
        return next(self._numbers)

    async def run(self, job: Job, *, front: bool = False) -> Done:
        """Do a job on one of the machines; see `Executor.run`."""
        message = message_of(self.number(), job, front=front)
        lane: Lane = "wait" if isinstance(job, Await) else "cpu"
        sent_s = time.monotonic()
        ended, heard_s = await self.ask(message, lane, front=front)
        begin_s = end_s = None
        if ended.took_s is not None:
            # By the driver's clock: the way back counts as held up, which it is at least.
            end_s = max(heard_s - ended.held_s, sent_s)
            begin_s = max(end_s - ended.took_s, sent_s)
        return Done(
            msgspec.Raw(ended.data),
            ended.cpu_s or 0.0,
            ended.wait_s,
            begin_s=begin_s,
            end_s=end_s,
            startup_s=ended.startup_s,
            memory_bytes=ended.memory_bytes,
        )

    async def ask(
        self,
        message: Message,
        lane: Lane,
        *,
        front: bool = False,
        key: bytes = b"",
        on_token: OnToken | None = None,
    ) -> tuple[Ended, float]:
        """Send a message to the machine with the most room, or the one that had `key` last.

        Raises:
            InputError: it cannot be done as it was asked.
            StepError: it failed, or the machine was lost, or there is none.
        """
        member = await self.with_room(lane, front=front, key=key)
        if key:
            self._last[key] = member
            self._last.move_to_end(key)
            if len(self._last) > _MOST_KEYS:
                self._last.popitem(last=False)
        return await member.ask(message, lane, on_token)

    async def with_room(self, lane: Lane, *, front: bool = False, key: bytes = b"") -> Member:
        """Return a machine with room; the gates let in no more than there is, but for losses.

        Raises:
            LostError: there is none.
        """
        while True:
            if not self.members:
                raise LostError(f"no machine of pool {self._pool.name!r} is there", down=True)
            last = self._last.get(key)
            if last in self.members and last.has_room(lane, front=front):
                return last
            able = [m for m in self.members if m.has_room(lane, front=front)]
            if able:
                return min(able, key=lambda member: member.load(lane))
            self._moved.clear()
            await self._moved.wait()

    async def close(self) -> None:
        """Give the machines back."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        self._keeping = []


def _mend_of(error: OSError) -> str:
    """Return what to do where a line could not be opened."""
    if isinstance(error, ssl.SSLError):
        return "give both ends certificates of one authority"
    if isinstance(error, NotTakenError):
        return "set RAY_USE_TLS alike for the driver and the nodes"
    return "open the nodes' ephemeral ports to the driver"
