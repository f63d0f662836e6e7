"""What the driver and its actors tell each other: msgpack, typed, one `bytes` object a frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.catalog.fleet import Pool
from polysilicon.errors import (
    EngineError,
    InputError,
    SandboxError,
    StepError,
    StepTimeoutError,
    ToolError,
    printable,
)
from polysilicon.runtime.executor import importable_name, packed, unsent
from polysilicon.runtime.jobs import Await, Call, Code, Job, Search, Words
from polysilicon.runtime.types import ChatRequest, Limits

LARGE_BYTES = 256 * 2**10
"""Results from this size on are not told but fetched, each by itself, from the object store."""

BATCH_BYTES = 64 * 2**10
"""What is told goes together up to this size: no small thing waits for large ones, and no frame
takes many turns of a loop to come in."""


class _Wire(msgspec.Struct, frozen=True, array_like=True):
    pass


class Setup(_Wire, frozen=True):
    """What an actor is told first.

    Attributes:
        pool: of the fleet.
        version: of the driver.
        cores: that it may use; None for those of its node, as Ray counts them.
    """

    pool: Pool
    version: str
    cores: int | None


class Hello(_Wire, frozen=True):
    """What an actor tells first.

    Attributes:
        node: names its node.
        cores: for tools, at once.
        slots: of its engine.
        model: of its engine; None where it has none.
        address: of its engine's endpoint, as other machines reach it; empty where it has none.
        key: that the endpoint asks for.
        fault: why it cannot serve; empty where it can.
        line: host and port at which it waits for the driver.
        word: the key that is asked for there.
    """

    node: str = ""
    cores: int = 0
    slots: int = 0
    model: str | None = None
    address: str = ""
    key: str = ""
    fault: str = ""
    line: str = ""
    word: str = ""


class _Function(_Wire, frozen=True):
    number: int
    front: bool
    module: str
    name: str
    arguments: bytes


class CallMessage(_Function, tag="call", frozen=True):
    """A function for a worker process."""

    timeout_s: float
    keeps: bool = False


class AwaitMessage(_Function, tag="await", frozen=True):
    """An `async def` function."""


class CodeMessage(_Wire, tag="code", frozen=True):
    """Code for a sandbox."""

    number: int
    front: bool
    sandbox: str
    code: str
    inputs: dict[str, Any]
    limits: Limits


class SearchMessage(_Wire, tag="search", frozen=True):
    """A query for an index, in a folder that the node sees, too."""

    number: int
    front: bool
    folder: str
    query: str
    k: int


class WordsMessage(_Wire, tag="words", frozen=True):
    """Texts for the lexical embedder."""

    number: int
    front: bool
    texts: list[str]


class ChatMessage(_Wire, tag="chat", frozen=True):
    """A request for the engine."""

    number: int
    request: ChatRequest


class EmbedMessage(_Wire, tag="embed", frozen=True):
    """Texts for the engine."""

    number: int
    texts: list[str]


class CancelMessage(_Wire, tag="cancel", frozen=True):
    """What is asked for no more."""

    number: int


JobMessage = CallMessage | AwaitMessage | CodeMessage | SearchMessage | WordsMessage
Message = JobMessage | ChatMessage | EmbedMessage | CancelMessage


class Ended(_Wire, tag="ended", frozen=True):
    """What came of a message that went well.

    Attributes:
        number: of the message.
        data: the result as msgpack; empty where it is to be fetched.
        large: it is to be fetched.
        cpu_s: core-seconds; None where unknown.
        wait_s: seconds of waiting, where known.
        took_s: seconds from when it was taken up to its end; None where it had not to wait.
        held_s: seconds from its end to when this was told.
        startup_s: of its sandbox.
        memory_bytes: of its sandbox.
    """

    number: int
    data: bytes
    large: bool = False
    cpu_s: float | None = None
    wait_s: float | None = None
    took_s: float | None = None
    held_s: float = 0.0
    startup_s: float | None = None
    memory_bytes: int | None = None


class Failed(_Wire, tag="failed", frozen=True):
    """What came of a message that went wrong.

    Attributes:
        number: of the message.
        kind: name of the error's type.
        text: its line.
        cpu_s: core-seconds that it used, where known.
        flags: of an engine's error, those that are true.
    """

    number: int
    kind: str
    text: str
    cpu_s: float | None = None
    flags: tuple[str, ...] = ()


class Token(_Wire, tag="token", frozen=True):
    """A piece of an answer's text."""

    number: int
    text: str


Event = Ended | Failed | Token

decode_setup = msgspec.msgpack.Decoder(Setup).decode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
decode_events = msgspec.msgpack.Decoder(list[Event]).decode

_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
_decode_message = msgspec.msgpack.Decoder(Message).decode

_TEXT_LENGTH = 16 * 2**10
"""Of an error; what a tool or an engine says of itself may be of any length."""
_FLAGS = ("of_request", "begun", "down", "broke")
_KINDS: dict[str, type[StepError]] = {
    kind.__name__: kind for kind in (StepTimeoutError, SandboxError, ToolError)
}


def encode(value: Any) -> bytes:
    """Return what is told as msgpack.

    Raises:
        InputError: it holds what a task gave, and that cannot be sent.
    """
    try:
        return _encode(value)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise unsent(error) from error


def batch(messages: list[tuple[int, bytes]]) -> bytes:
    """Return messages as a batch, each with its number and encoded, so that it may fail alone."""
    return _encode(messages)


def frames_of(events: list[Event]) -> Iterator[bytes]:
    """Yield events as frames, each of up to `BATCH_BYTES` or of one event; one frame at least."""
    told, told_bytes = list[msgspec.Raw](), 0
    for event in events:
        data = encode(event)
        if told and told_bytes + len(data) > BATCH_BYTES:
            yield _encode(told)
            told, told_bytes = [], 0
        told.append(msgspec.Raw(data))
        told_bytes += len(data)
    yield _encode(told)


def decode_messages(data: bytes) -> list[Message | Failed]:
    """Return the messages of a batch; of one that cannot be read, that it failed."""
    found: list[Message | Failed] = []
    for number, message in _decode_batch(data):
        try:
            found.append(_decode_message(message))
        except (msgspec.ValidationError, RecursionError) as error:  # a task's, handed on unseen
            found.append(failed(number, unsent(error)))
    return found


def message_of(number: int, job: Job, *, front: bool) -> JobMessage:
    """Return a job as a message.

    Raises:
        InputError: its function cannot be named, or its arguments not be sent.
    """
    match job:
        case Call(fn, args, kwargs, timeout_s, keeps):
            what = (*importable_name(fn), packed(args, kwargs))
            return CallMessage(number, front, *what, timeout_s, keeps)
        case Await(fn, args, kwargs):
            return AwaitMessage(number, front, *importable_name(fn), packed(args, kwargs))
        case Code(sandbox, code, inputs, limits):
            return CodeMessage(number, front, sandbox, code, dict(inputs), limits)
        case Search(folder, query, k):
            return SearchMessage(number, front, str(folder.resolve()), query, k)
        case Words(texts):
            return WordsMessage(number, front, list(texts))


def job_of(message: CodeMessage | SearchMessage | WordsMessage) -> Job:
    """Return the job of a message that names no function."""
    match message:
        case CodeMessage():
            return Code(message.sandbox, message.code, message.inputs, message.limits)
        case SearchMessage():
            return Search(Path(message.folder), message.query, message.k)
        case WordsMessage():
            return Words(message.texts)


def failed(number: int, error: Exception) -> Failed:
    """Return an error as an event."""
    flags = tuple(name for name in _FLAGS if getattr(error, name, False))
    kind = next((k.__name__ for k in (InputError, EngineError) if isinstance(error, k)), "")
    kind = kind or (type(error).__name__ if isinstance(error, StepError) else "ToolError")
    text = str(error) if isinstance(error, (InputError, StepError)) else f"{error!r}"
    text = printable(text[:_TEXT_LENGTH])
    return Failed(number, kind, text, getattr(error, "cpu_s", None), flags)


def error_of(event: Failed) -> Exception:
    """Return the error that an event tells of."""
    if event.kind == "InputError":
        return InputError(event.text)
    error: StepError
    if event.kind == "EngineError":
        flags = (name for name in event.flags if name in _FLAGS)
        error = EngineError(event.text, **dict.fromkeys(flags, True))
    else:
        error = _KINDS.get(event.kind, ToolError)(event.text)
    error.cpu_s = event.cpu_s
    return error
