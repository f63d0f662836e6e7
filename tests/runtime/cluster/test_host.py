from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from polysilicon.catalog.fleet import Pool
from polysilicon.errors import EngineError

pytest.importorskip("ray")
from polysilicon.runtime.cluster.host import Host
from polysilicon.runtime.cluster.wire import (
    BATCH_BYTES,
    CallMessage,
    CancelMessage,
    ChatMessage,
    CodeMessage,
    Ended,
    Failed,
    Message,
    SearchMessage,
    Setup,
    Token,
    WordsMessage,
    batch,
    decode_events,
    encode,
)
from polysilicon.runtime.executor import CallResult, Workers
from polysilicon.runtime.types import ChatRequest, Limits

DEEP = msgspec.Raw(b"\x91" * 100_000 + b"\xc0")
"""A list in a list in a list, and so on."""


def host(**more: Any) -> Host:
    return Host(encode(Setup(Pool(name="p", serves=("tool:*",), **more), "1", 1)))


def batched(*messages: Message) -> bytes:
    return batch([(message.number, encode(message)) for message in messages])


class Line:
    """The actor's end of a line."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[bytes] = asyncio.Queue()
        self.told: asyncio.Queue[bytes] = asyncio.Queue()
        self.read, self.send = self.asked.get, self.told.put_nowait

    def close(self) -> None:
        """Do nothing."""


def test_a_message_that_cannot_be_read_fails_alone() -> None:
    messages = [
        WordsMessage(1, False, [3]),
        WordsMessage(2, False, ["a"]),
        CodeMessage(3, False, "monty", "x", {1: 2}, Limits()),
        SearchMessage(4, False, "/x", "q", "5"),
        CodeMessage(5, False, "monty", "x", {"x": DEEP}, Limits()),
    ]

    async def scenario() -> None:
        there, told, line = host(), {}, Line()
        serving = asyncio.create_task(there.serve(line))
        line.asked.put_nowait(batched(*messages))
        async with asyncio.timeout(60):
            while len(told) < len(messages):
                told |= {event.number: event for event in decode_events(await line.told.get())}
        assert isinstance(told[2], Ended)
        for number, expected in (
            (1, "`str`, got `int`"),
            (3, "`str`"),
            (4, "`int`, got `str`"),
            (5, "maximum recursion depth exceeded"),
        ):
            assert isinstance(told[number], Failed)
            assert told[number].kind == "InputError"
            assert expected in told[number].text
        serving.cancel()
        await there.close()

    asyncio.run(scenario())


def test_no_frame_is_so_large_that_it_takes_long_to_come_in() -> None:
    async def scenario() -> None:
        there, line = host(), Line()
        there._line = line
        events = [Ended(number, bytes(40_000)) for number in range(50)]
        events[7] = Ended(7, bytes(BATCH_BYTES))  # alone, and late for none
        events += [Token(number, "x") for number in range(3)]
        for event in events:
            there._tell(event, 0.0)
        there._flush()
        frames = [line.told.get_nowait() for _ in range(line.told.qsize())]
        told = [decode_events(frame) for frame in frames]
        assert [event for frame in told for event in frame] == events
        for frame, held in zip(frames, told, strict=True):
            assert len(frame) <= BATCH_BYTES + 8 or len(held) == 1
        assert len(told[-1]) == 4
        there._flush()  # a beat, of nothing
        assert decode_events(line.told.get_nowait()) == []
        await there.close()

    asyncio.run(scenario())


def test_a_long_piece_of_an_answer_is_told_in_parts() -> None:
    pieces = ["", "a", "\u00e9" * 50_000, "b"]

    class Engine:
        async def chat(self, _request: Any, on_token: Any) -> str:
            for piece in pieces:
                on_token(piece)
            return "done"

    async def scenario() -> None:
        there, line = host(), Line()
        there._line, there._engine = line, Engine()
        request = ChatRequest(messages=({"role": "user", "content": "x"},))
        assert await there._chat(ChatMessage(3, request)) == "done"
        there._flush()
        frames = [line.told.get_nowait() for _ in range(line.told.qsize())]
        tokens = [event for frame in frames for event in decode_events(frame)]
        assert max(map(len, frames)) <= BATCH_BYTES + 8
        assert "".join(token.text for token in tokens) == "".join(pieces)
        assert {type(token) for token in tokens} == {Token}
        there._engine = None
        await there.close()

    asyncio.run(scenario())


def test_nothing_is_kept_of_what_is_cancelled_before_it_begins() -> None:
    async def scenario() -> None:
        there = host()
        there._begin(batched(WordsMessage(7, False, ["a"]), CancelMessage(7)))
        assert list(there._running) == [7]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not there._running
        await there.close()

    asyncio.run(scenario())


def test_others_stand_back_for_functions_that_somebody_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stood: list[bool] = []

    async def scenario() -> None:
        there = host()
        others = there._here._others

        async def called(*_: object) -> CallResult:
            stood.append(bool(others._before))
            return CallResult(data=b"\x01", cpu_s=0.0, wait_s=None, begin_s=0.0, end_s=0.0)

        monkeypatch.setattr(Workers, "call_named", called)
        arguments = b"\x92\x91\x04\x80"
        for front in (True, False):
            done = await there._job(CallMessage(1, front, "math", "sqrt", arguments, 1.0))
            assert bytes(done.result) == b"\x01"
        await there.close()

    asyncio.run(scenario())
    assert stood == [True, False]


def test_an_answer_that_fails_tells_its_core_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise EngineError("too long", of_request=True)

    async def scenario() -> None:
        there = host()
        monkeypatch.setattr(there._here.cpu, "end", lambda mark_s: 0.25)
        event, _ = await there._by_engine(3, failing())
        assert event == Failed(3, "EngineError", "too long", 0.25, ("of_request",))
        await there.close()

    asyncio.run(scenario())
