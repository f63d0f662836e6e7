"""The driver's side of one actor: what is under way there, and whether it lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from ray.exceptions import RayError

from polysilicon.errors import LostError
from polysilicon.runtime.cluster.host import BEAT_S
from polysilicon.runtime.cluster.line import Line
from polysilicon.runtime.cluster.wire import (
    BATCH_BYTES,
    CancelMessage,
    Ended,
    Event,
    Failed,
    Hello,
    Message,
    Token,
    batch,
    decode_events,
    encode,
    error_of,
)
from polysilicon.runtime.engines.forward import Forwarder
from polysilicon.runtime.jobs import Lane
from polysilicon.runtime.pools import MOST_WAITING
from polysilicon.runtime.types import OnToken

SILENT_S = 5 * BEAT_S
"""An actor that tells nothing for so long counts as lost, whatever Ray says of it."""

_TURNS = 10
"""What has come to this machine is heard after so many turns of the loop at most."""


@dataclass(slots=True)
class _Flight:
    """A message that was sent: who waits for what comes of it."""

    result: asyncio.Future[tuple[Ended, float]]
    on_token: OnToken | None


class Member:
    """A machine of a pool that serves.

    Args:
        actor: the handle of its `Host`.
        line: to it.
        hello: what it told first.

    Attributes:
        gone: done, with the reason, once it is lost.
        changed: called when something under way has ended.
        forwarder: connections to its engine's endpoint; None where it has none.
    """

    def __init__(self, actor: Any, line: Line, hello: Hello, changed: Callable[[], None]) -> None:
        self.hello = hello
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.forwarder = Forwarder(hello.address, hello.key) if hello.address else None
        self._actor, self._line, self._changed = actor, line, changed
        self._flights: dict[int, _Flight] = {}
        self._taken: dict[Lane, int] = {"cpu": 0, "wait": 0, "engine": 0}
        self._caps: dict[Lane, int] = {
            "cpu": hello.cores, "wait": MOST_WAITING, "engine": hello.slots
        }  # fmt: skip
        self._outbox: list[tuple[int, bytes]] = []
        self._outbox_bytes = 0
        self._listening = asyncio.create_task(self._listen())

    def load(self, lane: Lane) -> float:
        """Return which part of a lane is taken."""
        return self._taken[lane] / max(self._caps[lane], 1)

    def has_room(self, lane: Lane, *, front: bool = False) -> bool:
        """Tell whether another message of a lane may be sent; beyond the cores for `front`."""
        if self.gone.done():
            return False
        return self._taken[lane] < self._caps[lane] * (2 if front and lane == "cpu" else 1)

    async def ask(
        self, message: Message, lane: Lane, on_token: OnToken | None = None
    ) -> tuple[Ended, float]:
        """Send a message; return what came of it, and when that was heard of.

        Raises:
            InputError: it cannot be done as it was asked.
            StepError: it failed, or the machine was lost.
        """
        if self.gone.done():
            raise self._lost(self.gone.result())
        number = message.number
        result: asyncio.Future[tuple[Ended, float]] = asyncio.get_running_loop().create_future()
        self._flights[number] = _Flight(result, on_token)
        try:
            with self.taken(lane):
                self._send(message)
                ended, heard_s = await result
                return await self._whole(ended), heard_s
        except asyncio.CancelledError:
            if not self.gone.done():
                self._send(CancelMessage(number))
            raise
        finally:
            self._flights.pop(number, None)

    @contextmanager
    def taken(self, lane: Lane) -> Iterator[None]:
        """Take of a lane what one message takes."""
        self._taken[lane] += 1
        try:
            yield
        finally:
            self._taken[lane] -= 1
            self._changed()

    async def _whole(self, ended: Ended) -> Ended:
        """Fetch a large result."""
        if not ended.large:
            return ended
        fetched = _future(self._actor.fetch.remote(ended.number))
        either: list[asyncio.Future[Any]] = [fetched, self.gone]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not fetched.done():
            raise self._lost(self.gone.result())
        try:
            return msgspec.structs.replace(ended, data=fetched.result(), large=False)
        except RayError as error:
            raise self._lost(str(type(error).__name__)) from error

    def _send(self, message: Message) -> None:
        """Send with what others send in the same turn of the loop, or alone where it is large."""
        data = encode(message)
        if self._outbox and self._outbox_bytes + len(data) > BATCH_BYTES:
            self._flush()
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append((message.number, data))
        self._outbox_bytes += len(data)

    def _flush(self) -> None:
        if self._outbox and not self.gone.done():
            self._line.send(batch(self._outbox))
        self._outbox, self._outbox_bytes = [], 0

    async def _listen(self) -> None:
        """Hear what happens there until it is lost."""
        told = _looked_at(asyncio.ensure_future(self._line.read()))
        try:
            while await _in_time(told):
                data, heard_s = told.result(), time.monotonic()
                told = _looked_at(asyncio.ensure_future(self._line.read()))
                for event in decode_events(data):
                    self._hear(event, heard_s)
            self.lose(f"it told nothing for {SILENT_S:g} s")
        except (OSError, EOFError):
            self.lose("its connection ended")
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody listens from here on
            self.lose(type(error).__name__)
        finally:
            told.cancel()

    def _hear(self, event: Event, heard_s: float) -> None:
        flight = self._flights.get(event.number)
        if flight is None or flight.result.done():
            return
        if isinstance(event, Token):
            try:
                if flight.on_token is not None:
                    flight.on_token(event.text)
            except Exception as error:  # noqa: BLE001 - foreign: it fails its own step alone
                flight.result.set_exception(error)
                self._send(CancelMessage(event.number))
        elif isinstance(event, Failed):
            flight.result.set_exception(error_of(event))
        else:
            flight.result.set_result((event, heard_s))

    def lose(self, reason: str) -> None:
        """Give it up: what is under way there fails, and is for other machines."""
        if self.gone.done():
            return
        self.gone.set_result(reason)
        for flight in self._flights.values():
            if not flight.result.done():
                flight.result.set_exception(self._lost(reason))

    def _lost(self, reason: str) -> LostError:
        where = f"node {self.hello.node[:8]}"
        return LostError(f"{where} was lost: {reason}", down=True, broke=True)

    async def close(self) -> None:
        """Listen no more."""
        self.lose("the pool is closed")
        if self.forwarder is not None:
            self.forwarder.close()
        self._listening.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await self._listening
        finally:
            self._line.close()


def _future(told: Any) -> asyncio.Future[bytes]:
    """Return what an actor is to tell, as a future that may be left without a look."""
    return _looked_at(asyncio.wrap_future(told.future()))


def _looked_at(found: asyncio.Future[bytes]) -> asyncio.Future[bytes]:
    """Return a future of which nobody complains that it failed and was left without a look."""
    found.add_done_callback(lambda done: done.cancelled() or done.exception())
    return found


async def _in_time(told: asyncio.Future[bytes]) -> bool:
    """Wait for an answer; where this loop stood still meanwhile, what has come counts."""
    await asyncio.wait([told], timeout=SILENT_S)
    for _ in range(_TURNS):
        if not told.done():
            await asyncio.sleep(0)
    return told.done()
