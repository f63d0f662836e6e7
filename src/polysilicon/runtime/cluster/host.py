"""The actor on a machine of a pool: does what the driver's messages ask, and tells what came of it.

Both go over a line of their own, in batches: what comes in one turn of the loop goes together, up
to a size.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime import models
from polysilicon.runtime.cluster.line import Line, Listener
from polysilicon.runtime.cluster.relay import Relay
from polysilicon.runtime.cluster.wire import (
    LARGE_BYTES,
    AwaitMessage,
    CallMessage,
    CancelMessage,
    ChatMessage,
    EmbedMessage,
    Ended,
    Event,
    Failed,
    Hello,
    JobMessage,
    Message,
    Setup,
    Token,
    decode_messages,
    decode_setup,
    encode,
    failed,
    frames_of,
    job_of,
)
from polysilicon.runtime.engines import open_engine
from polysilicon.runtime.executor import function_named
from polysilicon.runtime.here import Here
from polysilicon.runtime.jobs import Await, Done
from polysilicon.runtime.results import encode_result
from polysilicon.runtime.types import Engine

BEAT_S = 2.0
"""The driver is told something so often, be it nothing, so that it knows that this lives."""

_TOKEN_LENGTH = 8 * 2**10
"""Characters of an answer that are told at once; a longer piece of an engine goes in parts."""

_TOKENS_S = 0.05
"""Tokens wait so long for more of them; the first of an answer waits for none."""


class Host:
    """The actor.

    Args:
        setup: a `Setup`, encoded.
    """

    def __init__(self, setup: bytes) -> None:
        self._setup = decode_setup(setup)
        self._here = Here.opened(1)
        self._engine: Engine | None = None
        self._relay: Relay | None = None
        self._line: Line | None = None
        self._events: list[tuple[Event, float]] = []
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.Handle | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self._large: dict[int, bytes] = {}

    async def hello(self) -> bytes:
        """Get ready, and tell what this machine is, or why it cannot serve."""
        try:
            hello = await self._opened()
            listener = await Listener.opened(_node_address(), self.serve)
            return encode(msgspec.structs.replace(hello, line=listener.address, word=listener.key))
        except (PolysiliconError, OSError, ImportError) as error:
            return encode(Hello(node=_node_id(), fault=str(error)))

    async def lives(self) -> None:
        """Answer, which only an actor does that is still there."""

    async def _opened(self) -> Hello:
        setup, here = self._setup, version("polysilicon")
        if setup.version != here:
            what = f"it has polysilicon {here}, the driver {setup.version}"
            raise InputError(what, mend="install the same on all machines")
        cores = setup.cores
        if cores is None:
            cores = await asyncio.to_thread(_node_cores)
        self._here = Here.opened(cores)
        self._engine = engine = await asyncio.to_thread(_engine, setup, cores)
        if engine is None:
            return Hello(node=_node_id(), cores=cores)
        self._relay = await Relay.opened(engine, _node_address())
        return Hello(
            node=_node_id(),
            cores=cores,
            slots=setup.pool.concurrency,
            model=engine.model,
            address=self._relay.address,
            key=getattr(engine, "key", None) or "",
        )

    async def serve(self, line: Line) -> None:
        """Do what the driver's messages ask, and tell what comes of them, until it is gone."""
        self._line = line
        beating = asyncio.create_task(self._beat())
        try:
            with suppress(OSError, EOFError):
                while True:
                    self._begin(await line.read())
        finally:
            beating.cancel()
            self._line = None
            line.close()

    async def _beat(self) -> None:
        """Tell now and then that this lives."""
        while True:
            self._flush()
            await asyncio.sleep(BEAT_S)

    def _begin(self, data: bytes) -> None:
        """Begin what messages ask."""
        for message in decode_messages(data):
            number = message.number
            if isinstance(message, Failed):
                self._tell(message, 0.0)
            elif isinstance(message, CancelMessage):
                if number in self._running:
                    self._running[number].cancel()
                self._large.pop(number, None)
            else:
                task = self._running[number] = asyncio.create_task(self._do(message))
                task.add_done_callback(partial(self._forget, number))

    def _flush(self) -> None:
        """Tell what has happened since."""
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._soon = self._later = None
        events, self._events = self._events, []
        now_s = time.monotonic()
        told = []
        for event, end_s in events:
            held = isinstance(event, Ended) and event.took_s is not None
            told.append(msgspec.structs.replace(event, held_s=now_s - end_s) if held else event)
        if self._line is not None:
            for frame in frames_of(told):
                self._line.send(frame)

    async def fetch(self, number: int) -> bytes:
        """Return a large result, once; Ray hands it on through its object store."""
        return self._large.pop(number)

    async def close(self) -> None:
        """End engine, workers and sandboxes."""
        for task in list(self._running.values()):
            task.cancel()
        if self._relay is not None:
            self._relay.close()
        closing = [self._here.close()]
        if self._engine is not None:
            closing.append(self._engine.close())
        await asyncio.gather(*closing, return_exceptions=True)

    def _forget(self, number: int, _: asyncio.Task[None]) -> None:
        """Be done with a message, which may be cancelled before it was begun."""
        self._running.pop(number, None)

    def _tell(self, event: Event, end_s: float, *, at_once: bool = True) -> None:
        """Tell of an event with those of this turn of the loop, or a little later."""
        self._events.append((event, end_s))
        loop = asyncio.get_running_loop()
        if at_once and self._soon is None:
            self._soon = loop.call_soon(self._flush)
        elif not at_once and self._soon is None and self._later is None:
            self._later = loop.call_later(_TOKENS_S, self._flush)

    async def _do(self, message: Message) -> None:
        """Do what a message asks, and tell what came of it."""
        number = message.number
        try:
            event, end_s = await self._ended(message)
        except Exception as error:  # noqa: BLE001 - foreign: what it raises is its result
            event, end_s = failed(number, error), time.monotonic()
        self._tell(event, end_s)

    async def _ended(self, message: Message) -> tuple[Event, float]:
        """Do what a message asks; return what came of it, and when."""
        number = message.number
        if isinstance(message, ChatMessage):
            return await self._by_engine(number, self._chat(message))
        if isinstance(message, EmbedMessage):
            assert self._engine is not None
            return await self._by_engine(number, self._engine.embed(message.texts))
        assert not isinstance(message, CancelMessage)
        done = await self._job(message)
        end_s = time.monotonic() if done.end_s is None else done.end_s
        event = Ended(
            number,
            encode_result(done.result),
            cpu_s=done.cpu_s,
            wait_s=done.wait_s,
            took_s=None if done.begin_s is None else end_s - done.begin_s,
            startup_s=done.startup_s,
            memory_bytes=done.memory_bytes,
        )
        return self._kept(event), end_s

    async def _job(self, message: JobMessage) -> Done:
        here = self._here
        match message:
            case CallMessage(_, front, module, name, arguments, timeout_s, keeps):
                what = (module, name, arguments, timeout_s)
                return await here.named(*what, front=front, keeps=keeps)
            case AwaitMessage():
                function = function_named(message.module, message.name)
                args, kwargs = msgspec.msgpack.decode(message.arguments)
                return await here.run(Await(function, tuple(args), kwargs))
            case _:
                return await here.run(job_of(message), front=message.front)

    async def _chat(self, message: ChatMessage) -> Any:
        assert self._engine is not None
        number, first = message.number, True

        def piece(text: str) -> None:
            nonlocal first
            for at in range(0, max(len(text), 1), _TOKEN_LENGTH):
                part = text[at : at + _TOKEN_LENGTH]
                self._tell(Token(number, part), 0.0, at_once=first)
                first = False

        return await self._engine.chat(message.request, piece)

    async def _by_engine(self, number: int, work: Coroutine[Any, Any, Any]) -> tuple[Event, float]:
        """Await an answer, or that there is none; an engine in this process alone is metered."""
        cpu = self._here.cpu if self._setup.pool.engine == "llama.cpp" else None
        mark_s = cpu.begin() if cpu else 0.0
        event: Ended | Failed
        try:
            event = self._kept(Ended(number, encode_result(await work)))
        except Exception as error:  # noqa: BLE001 - as of `_do`; it used the cores all the same
            event = failed(number, error)
        finally:
            used_s = cpu.end(mark_s) if cpu else None
        return msgspec.structs.replace(event, cpu_s=used_s), time.monotonic()

    def _kept(self, event: Ended) -> Ended:
        """Keep a large result until it is fetched."""
        if len(event.data) < LARGE_BYTES:
            return event
        self._large[event.number] = event.data
        return msgspec.structs.replace(event, data=b"", large=True)


def _engine(setup: Setup, cores: int) -> Engine | None:
    """Open the engine of a pool on this machine; None where it serves tools alone."""
    from polysilicon.runtime.engines.native.choice import setup_of  # noqa: PLC0415 - heavy

    pool = setup.pool
    if pool.engine == "openai":
        key = os.environ.get(pool.key_env) if pool.key_env else None
        options: dict[str, Any] = {"endpoint": pool.endpoint, "model": pool.model, "key": key}
        return open_engine("openai", concurrency=pool.concurrency, **options)
    if not any(pattern.startswith(("llm", "*")) for pattern in pool.serves):
        return None
    path = models.pull(pool.model or models.DEFAULT_MODEL)
    found = setup_of(pool, path, cores)
    return open_engine("llama.cpp", path=Path(path), concurrency=pool.concurrency, setup=found)


def _node_id() -> str:
    import ray  # noqa: PLC0415 - an extra

    found: str = ray.get_runtime_context().get_node_id()
    return found


def _node_address() -> str:
    import ray.util  # noqa: PLC0415 - an extra

    found: str = ray.util.get_node_ip_address()
    return found


def _node_cores() -> int:
    """Return the cores of this node: as Ray counts them, or the system where it has less."""
    import ray  # noqa: PLC0415 - an extra

    own = _node_id()
    told = next((n["Resources"].get("CPU", 0) for n in ray.nodes() if n["NodeID"] == own), 0)
    system = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(int(told) or (system or 1), system or 1))
