from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from polysilicon.catalog.fleet import Pool
from polysilicon.errors import InputError, LostError
from polysilicon.runtime.types import ChatRequest

pytest.importorskip("ray")
from polysilicon.runtime.cluster.engine import ClusterEngine
from polysilicon.runtime.cluster.machines import Machines
from polysilicon.runtime.cluster.member import Member
from polysilicon.runtime.cluster.wire import (
    CancelMessage,
    ChatMessage,
    Ended,
    Event,
    Hello,
    Message,
    Token,
    WordsMessage,
    decode_messages,
    encode,
)

REQUEST = ChatRequest(messages=({"role": "user", "content": "x"},))


class Actor:
    """Keeps what it is sent, and tells what a test has it tell; the actor and its line in one."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.told: asyncio.Queue[bytes] = asyncio.Queue()
        self.read = self.told.get
        self.fetch = SimpleNamespace(remote=lambda _number: SimpleNamespace(future=Future))
        self.closed = False

    def send(self, frame: bytes) -> None:
        self.sent.extend(decode_messages(frame))

    def tell(self, *events: Event) -> None:
        self.told.put_nowait(encode(events))

    def close(self) -> None:
        self.closed = True


def member(actor: Actor) -> Member:
    return Member(actor, actor, Hello(node="n", cores=2, slots=2), lambda: None)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_listener_of_tokens_that_raises_fails_its_own_step_alone() -> None:
    def bad(text: str) -> None:
        raise ValueError(text)

    async def scenario() -> None:
        actor = Actor()
        there = member(actor)
        one = asyncio.create_task(there.ask(ChatMessage(1, REQUEST), "engine", bad))
        two = asyncio.create_task(there.ask(ChatMessage(2, REQUEST), "engine"))
        await turns()
        actor.tell(Token(1, "hi"), Token(1, "ho"))
        await turns()
        with pytest.raises(ValueError, match="hi"):
            one.result()
        assert actor.sent[2:] == [CancelMessage(1)]
        actor.tell(Ended(2, b"\xc0"))
        await turns()
        assert two.result()[0].data == b"\xc0"
        await there.close()

    asyncio.run(scenario())


def test_one_that_tells_what_cannot_be_read_is_lost() -> None:
    async def scenario() -> None:
        actor = Actor()
        there = member(actor)
        asked = asyncio.create_task(there.ask(WordsMessage(1, False, ["a"]), "cpu"))
        await turns()
        actor.told.put_nowait(b"\x80")
        await turns()
        with pytest.raises(LostError, match="ValidationError"):
            asked.result()
        await there.close()

    asyncio.run(scenario())


def test_one_whose_line_ends_is_lost_and_its_own_end_is_closed() -> None:
    async def scenario() -> None:
        actor = Actor()

        async def broken() -> bytes:
            await actor.told.get()
            raise EOFError

        actor.read = broken
        there = member(actor)
        asked = asyncio.create_task(there.ask(WordsMessage(1, False, ["a"]), "cpu"))
        await turns()
        assert not actor.closed
        actor.tell()
        await turns()
        with pytest.raises(LostError, match="its connection ended"):
            asked.result()
        await there.close()
        assert actor.closed

    asyncio.run(scenario())


def test_one_that_is_lost_has_no_room_and_is_asked_in_vain() -> None:
    async def scenario() -> None:
        there = member(Actor())
        assert there.has_room("cpu")
        there.lose("it fell over")
        assert not there.has_room("cpu", front=True)
        asked = there.ask(WordsMessage(1, False, ["a"]), "cpu")
        with pytest.raises(LostError, match="it fell over"):
            await asyncio.wait_for(asked, 60.0)
        await there.close()

    asyncio.run(scenario())


def test_a_large_result_of_one_that_is_lost_is_waited_for_no_more() -> None:
    async def scenario() -> None:
        actor = Actor()
        there = member(actor)
        asked = asyncio.create_task(there.ask(WordsMessage(1, False, ["a"]), "cpu"))
        await turns()
        actor.tell(Ended(1, b"", large=True))
        await turns()
        assert not asked.done()  # it is fetched
        there.lose("it fell over")
        with pytest.raises(LostError, match="it fell over"):
            await asyncio.wait_for(asked, 60.0)
        await there.close()

    asyncio.run(scenario())


def test_what_cannot_be_sent_takes_no_room() -> None:
    async def scenario() -> None:
        there = member(Actor())
        with pytest.raises(InputError, match="it cannot be sent"):
            await there.ask(WordsMessage(1, False, [object()]), "cpu")
        assert there.load("cpu") == 0.0
        await there.close()

    asyncio.run(scenario())


def test_forwarded_calls_take_slots_of_all_machines_and_wait_for_one() -> None:
    async def scenario() -> None:
        machines = Machines(None, Pool(name="p", serves=("llm",)))
        engine = ClusterEngine(machines, "llama.cpp", "m", 4)
        for port in (1, 2):
            hello = Hello(node="n", slots=2, address=f"http://127.0.0.1:{port}/v1", key="k")
            actor = Actor()
            machines.members.append(Member(actor, actor, hello, machines._moved.set))
        one, two = machines.members
        async with AsyncExitStack() as stack:
            found = [await stack.enter_async_context(engine.forwarder()) for _ in range(4)]
            assert sorted(map(found.count, (one.forwarder, two.forwarder))) == [2, 2]
            assert one.load("engine") == two.load("engine") == 1.0
            fifth = asyncio.create_task(stack.enter_async_context(engine.forwarder()))
            for _ in range(3):
                await asyncio.sleep(0)
            assert not fifth.done()
            fifth.cancel()
        assert one.load("engine") == two.load("engine") == 0.0
        await one.close()
        async with engine.forwarder() as forwarder:
            assert forwarder is two.forwarder
        assert one.forwarder._closed
        await two.close()
        machines.members.clear()
        with pytest.raises(LostError):
            await engine.forwarder().__aenter__()

    asyncio.run(scenario())
