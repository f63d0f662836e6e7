"""How much a body of JSON may hold, counted before it is read: reading it stops all other calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np

from polysilicon.gateway.errors import ApiError

MOST_PARTS = 50_000
"""Objects, arrays and keys; reading so many takes some 50 ms."""

MOST_VALUES = 500_000
"""Values of arrays and objects; numbers, such as tokens, take a tenth of the time of objects."""

_BYTES_OF_PART = 2
"""A body has no more parts than one for so many bytes."""

_SLICE_BYTES = 256 * 2**10
_QUOTE = ord('"')
_PART, _VALUE = 1, 2
_KINDS = np.zeros(256, np.uint8)
_KINDS[list(b"{[:")] = _PART
_KINDS[ord(",")] = _VALUE


async def check(body: bytes) -> None:
    """Refuse a body that holds too much; others have their turns while a large one is counted.

    What is in texts is not counted, so a prompt may have any characters.

    Raises:
        ApiError: 413.
    """
    for _ in counted(body, MOST_PARTS, MOST_VALUES):
        await asyncio.sleep(0)


def counted(body: bytes, most_parts: int, most_values: int) -> Iterator[None]:
    """Count what a body holds, a slice at a time.

    Raises:
        ApiError: 413; it holds more than it may.
    """
    start, in_text, parts, values = 0, False, 0, 0
    while len(body) > _BYTES_OF_PART * most_parts and start < len(body):
        end = _end_of_slice(body, start)
        found, in_text = _counted(body[start:end], in_text=in_text)
        parts, values, start = parts + int(found[_PART]), values + int(found[_VALUE]), end
        if parts > most_parts:
            raise _refused(f"{most_parts:,} objects, arrays and keys")
        if values > most_values:
            raise _refused(f"{most_values:,} values")
        yield


def _refused(what: str) -> ApiError:
    return ApiError(413, f"the body holds more than {what}", code="request_too_large")


def _end_of_slice(body: bytes, start: int) -> int:
    """Return where a slice ends, so that the next one does not begin with an escaped character."""
    end = min(start + _SLICE_BYTES, len(body))
    piece = body[start:end]
    escapes = len(piece) - len(piece.rstrip(b"\\"))
    return end - 1 if escapes % 2 and end < len(body) else end


def _counted(piece: bytes, *, in_text: bool) -> tuple[np.ndarray, bool]:
    """Return how many characters of each kind a slice has, and whether it ends within a text."""
    plain = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
    letters = np.frombuffer(plain, np.uint8)
    texts = np.logical_xor.accumulate(letters == _QUOTE) ^ in_text
    found = np.bincount(_KINDS[letters][~texts], minlength=3)
    return found, bool(texts[-1]) if len(texts) else in_text
