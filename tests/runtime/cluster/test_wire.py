from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from polysilicon.errors import (
    EngineError,
    InputError,
    SandboxError,
    StepTimeoutError,
    ToolError,
    UnreachedError,
)
from polysilicon.runtime.cluster.wire import (
    CancelMessage,
    Ended,
    Failed,
    Message,
    Token,
    batch,
    decode_events,
    decode_messages,
    encode,
    error_of,
    failed,
    job_of,
    message_of,
)
from polysilicon.runtime.jobs import Await, Call, Code, Search, Words
from polysilicon.runtime.types import Limits


def told(a: int, b: int) -> int:
    return a + b


async def told_later(a: int) -> int:
    return a


def batched(*messages: Message) -> bytes:
    return batch([(message.number, encode(message)) for message in messages])


def test_jobs_come_as_they_were_sent() -> None:
    jobs = [
        Code("monty", "x", {"x": [1, None, "é"]}, Limits(time_s=2.0)),
        Search(Path("/tmp"), "who?", 3),
        Words(["a", "b"]),
    ]
    messages = [message_of(n, job, front=bool(n)) for n, job in enumerate(jobs)]
    back = decode_messages(batched(*messages, CancelMessage(7)))
    assert [job_of(message) for message in back[:3]] == jobs
    assert [message.front for message in back[:3]] == [False, True, True]
    assert back[3] == CancelMessage(7)


def test_functions_go_by_name_and_arguments_as_data() -> None:
    messages = [
        message_of(1, Call(told, (1,), {"b": 2}, 9.0), front=False),
        message_of(2, Await(told_later, (3,), {}), front=True),
    ]
    call, waits = decode_messages(batched(*messages))
    assert (call.module, call.name, call.timeout_s) == (__name__, "told", 9.0)
    assert msgspec.msgpack.decode(call.arguments) == [[1], {"b": 2}]
    assert (waits.name, waits.front) == ("told_later", True)


def test_what_is_nested_too_deeply_is_not_sent() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="it cannot be sent: maximum recursion depth"):
        message_of(1, Call(told, (deep,), {}, 9.0), front=False)
    code = message_of(1, Code("monty", "x", {"x": deep}, Limits()), front=False)
    with pytest.raises(InputError, match="it cannot be sent: maximum recursion depth"):
        encode(code)


@pytest.mark.parametrize(
    "error",
    [
        ToolError("ValueError: no"),
        StepTimeoutError("ran past 1 s"),
        SandboxError("bubblewrap: none"),
        InputError("there is no index 'x'", mend="did you mean y?"),
        EngineError("too long", of_request=True),
        UnreachedError("nobody answers", down=True, broke=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_keep_their_kind_and_what_follows_from_it(error: Exception) -> None:
    (event,) = decode_events(encode([failed(4, error)]))
    assert isinstance(event, Failed)
    back = error_of(event)
    assert str(back) == str(error)
    expected = EngineError if isinstance(error, EngineError) else type(error)
    assert type(back) is expected
    for flag in ("of_request", "begun", "down", "broke"):
        assert getattr(back, flag, False) == getattr(error, flag, False)


def test_core_seconds_of_what_failed_and_foreign_errors() -> None:
    for error in (ToolError("ValueError: no"), EngineError("no answer", broke=True)):
        error.cpu_s = 0.25
        back = error_of(failed(1, error))
        assert type(back) is type(error)
        assert back.cpu_s == 0.25
    assert isinstance(error_of(failed(1, KeyError("k"))), ToolError)


def test_flags_that_nobody_knows_are_passed_over() -> None:
    back = error_of(Failed(1, "EngineError", "gone", flags=("down", "args", "self")))
    assert isinstance(back, EngineError)
    assert (back.down, back.broke) == (True, False)


def test_what_is_no_event_is_refused() -> None:
    good = [Ended(1, b"\xc0", cpu_s=0.5, took_s=0.1, held_s=0.2), Token(2, "é")]
    assert decode_events(encode(good)) == good
    for data in (b"", b"\x80", encode([["ended", "1"]]), encode([["other", 1]])):
        with pytest.raises(msgspec.DecodeError):
            decode_events(data)
