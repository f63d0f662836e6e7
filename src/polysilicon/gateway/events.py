"""Server-sent events of engines, passed on with as little looking as can be.

Of an answer's events only two things are looked for: the first text, and the `usage` at the end.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from polysilicon.errors import EngineError

DONE = b"data: [DONE]\n\n"
_MOST_EVENT_BYTES = 4 * 2**20
_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|arguments|text|refusal|name)"\s*:\s*"[^"]'
)
_DONE = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_END = re.compile(rb'"usage"\s*:\s*\{|\[DONE\]|"error"\s*:')


class Blocks:
    """Cuts a stream of bytes into blocks of whole events."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """Return the events that are whole now; empty where none is.

        Raises:
            EngineError: an event is too long.
        """
        if self._rest:
            data = self._rest + data
        if data.endswith((b"\n\n", b"\r\n\r\n")):
            self._rest = b""
            return data
        ends = ((data.rfind(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n"))
        cut = max(at + size if at >= 0 else 0 for at, size in ends)
        self._rest = data[cut:]
        if len(self._rest) > _MOST_EVENT_BYTES:
            raise EngineError("an event of the endpoint is too long")
        return data[:cut]

    def rest(self) -> bytes:
        """Return what came after the last whole event, as an event."""
        rest, self._rest = self._rest.strip(), b""
        return rest + b"\n\n" if rest else b""


def has_text(block: bytes) -> bool:
    """Tell whether a block of events has something that the model wrote."""
    return _TEXT.search(block) is not None


def may_end(block: bytes) -> bool:
    """Tell whether a block must be looked into: usage, an error, or the end may be in it."""
    return _END.search(block) is not None


def is_done(block: bytes) -> bool:
    """Tell whether a block has the end mark; a model may write one, too, which is none."""
    return _DONE.search(block) is not None


def parsed(block: bytes) -> list[dict[str, Any]]:
    """Return the events of a block; the end mark and comments are left out.

    Raises:
        EngineError: an event is no JSON object, or tells an error.
    """
    found = []
    for line in block.splitlines():
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]" or not data:
            continue
        try:
            event = msgspec.json.decode(data, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            raise EngineError("the endpoint sent what is no JSON") from error
        if event.get("error"):
            raise EngineError("the endpoint told an error in the midst of its answer")
        found.append(event)
    return found


def event(value: Any) -> bytes:
    """Return an event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
