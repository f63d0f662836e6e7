"""A stream of JSON documents in pieces that can each be decoded by themselves, in bounded memory.

A small document is one piece. One that grows beyond `PIECE_BYTES` is cut between elements of one of
the arrays that the format names, such as `spans`: what was read is closed with the brackets that
are open, and what follows is opened again with the same keys. Documents may follow each other with
or without line ends, or be elements of one array.

Where strings end is found with NumPy, not by a loop: about 100 MB a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

PIECE_BYTES = 4 * 2**20
LONGEST_ELEMENT = 32 * 2**20
"""One span, or whatever else the elements are, is not larger in any sound trace."""

DEEPEST = 512
_LEVELS = 16
"""Arrays to be cut lie at most this deep."""

KEPT_BYTES = 2**20

Ints = npt.NDArray[np.int64]
_MARKS = bytes(1 if byte in b'"\\{}[]' else 0 for byte in range(256))
_KEY = re.compile(rb'"([^"\\]{0,80})"\s{0,200}:\s{0,200}\Z')


class BrokenJsonError(ValueError):
    """The bytes are no JSON documents.

    Attributes:
        at: offset in the stream.
        what: what is wrong.
    """

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what, self.at = what, at


class _Marks:
    """Brackets outside of strings in a buffer, and how deep each is."""

    def __init__(self, data: bytes | bytearray) -> None:
        marks = np.flatnonzero(np.frombuffer(bytes(data).translate(_MARKS), np.uint8))
        values = np.frombuffer(data, np.uint8)[marks]
        quote = values == 34
        slash = values == 92
        if slash.any():
            quote[quote] = ~_escaped(marks, slash, quote)
        # Only whether a number is odd matters, which a byte that overflows still tells.
        outside = (np.cumsum(quote, dtype=np.uint8) & 1) == 0
        bracket = outside & ~quote & ~slash
        self.at: Ints = marks[bracket]
        self.byte = values[bracket]
        self.opens = (self.byte == 123) | (self.byte == 91)
        self.depth: Ints = np.cumsum(np.where(self.opens, 1, -1))
        self.in_string = bool(len(outside)) and not bool(outside[-1])


def _escaped(marks: Ints, slash: Any, quote: Any) -> Any:
    """Return for each quote whether an odd run of backslashes stands right before it."""
    places = marks[slash]
    starts = np.concatenate(([True], np.diff(places) != 1))
    begin = np.maximum.accumulate(np.where(starts, np.arange(len(places)), 0))
    length = np.arange(len(places)) - begin + 1
    found = marks[quote]
    before = np.searchsorted(places, found) - 1
    near = (before >= 0) & (places[np.maximum(before, 0)] == found - 1)
    return near & (length[np.maximum(before, 0)] % 2 == 1)


class Piece:
    """Some bytes of JSON, and where in the stream they begin."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at


def pieces(
    chunks: Iterable[bytes], arrays: frozenset[bytes], kept: frozenset[bytes] = frozenset()
) -> Iterator[Piece]:
    """Yield a stream of JSON documents in pieces.

    Args:
        chunks: of the stream.
        arrays: keys of the arrays between whose elements a document may be cut; an array that is
            a whole document, or an element of a document, may be cut too.
        kept: keys of objects beside such arrays that are given again with every piece.

    Raises:
        BrokenJsonError: brackets do not match, an element is too large, or the stream ends early;
            what was whole before that was yielded.
    """
    return _Cutter(arrays, kept).run(chunks)


class _Cutter:
    def __init__(self, arrays: frozenset[bytes], kept: frozenset[bytes]) -> None:
        self._arrays, self._kept = arrays, kept
        self._buffer = bytearray()
        self._prefix = 0  # bytes of the buffer that were not read but put there again
        self._read = 0

    def run(self, chunks: Iterable[bytes]) -> Iterator[Piece]:
        wanted = PIECE_BYTES
        for chunk in chunks:
            self._buffer += chunk
            self._read += len(chunk)
            if len(self._buffer) >= wanted:
                yield from self._cut()
                left = len(self._buffer)
                if left > LONGEST_ELEMENT:
                    what = f"an element of more than {LONGEST_ELEMENT:,} bytes"
                    raise BrokenJsonError(what, self._offset(0))
                wanted = left + max(PIECE_BYTES, left // 2)
        yield from self._cut()
        if self._buffer.strip():
            yield from self._inner(_Marks(self._buffer), ended=True)
            raise BrokenJsonError("JSON ends early", self._read)

    def _offset(self, place: int) -> int:
        return self._read - len(self._buffer) + max(place, self._prefix)

    def _cut(self) -> Iterator[Piece]:
        """Yield what is whole, and cut the rest if that is large."""
        marks = _Marks(self._buffer)
        if marks.depth.size:
            low = np.flatnonzero(marks.depth < 0)
            ends = np.flatnonzero((marks.depth == 0) & ~marks.opens)
            if low.size:
                ends = ends[ends < low[0]]
            begin = 0
            for end in (marks.at[ends] + 1).tolist():
                yield Piece(bytes(self._buffer[begin:end]), self._offset(begin))
                begin = end
            if low.size:
                place = int(marks.at[low[0]])
                raise BrokenJsonError("a bracket closes nothing", self._offset(place))
            if marks.depth.max() > DEEPEST:
                deep = int(marks.at[np.flatnonzero(marks.depth > DEEPEST)[0]])
                raise BrokenJsonError(f"more than {DEEPEST} brackets deep", self._offset(deep))
            self._drop(begin)
            if begin:
                marks = _Marks(self._buffer)
        if len(self._buffer) >= PIECE_BYTES:
            yield from self._inner(marks, ended=False)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._prefix = max(self._prefix - count, 0)

    def _inner(self, marks: _Marks, *, ended: bool) -> Iterator[Piece]:
        """Yield the part of an unfinished document up to its last whole element, if any."""
        stack = self._stack(marks)
        for level in range(len(stack), 0, -1):
            opened = stack[level - 1]
            if self._buffer[opened] != 91 or not self._may_cut(stack[:level]):
                continue
            inside = marks.at > opened
            closed = marks.at[np.flatnonzero(inside & ~marks.opens & (marks.depth == level))]
            # Right after an element nobody knows yet whether a comma or the end of the array comes.
            if closed.size and not ended and not self._buffer[int(closed[-1]) + 1 :].strip():
                closed = closed[:-1]
            if not closed.size:
                continue
            end = int(closed[-1]) + 1
            again = self._again(stack[:level], marks)
            tail = b"".join(b"]" if self._buffer[at] == 91 else b"}" for at in stack[:level][::-1])
            yield Piece(bytes(self._buffer[:end]) + tail, self._offset(0))
            rest = bytes(self._buffer[end:]).lstrip()
            rest = rest.removeprefix(b",")
            self._buffer = bytearray(again + rest)
            self._prefix = len(again)
            return

    def _stack(self, marks: _Marks) -> list[int]:
        """Return the places of the brackets that are open at the end, the outermost first."""
        if not marks.depth.size:
            return []
        opens = np.flatnonzero(marks.opens)
        depth = marks.depth[opens]
        last = int(marks.depth[-1])
        return [
            int(marks.at[opens[np.flatnonzero(depth == level)[-1]]])
            for level in range(1, min(last, _LEVELS) + 1)
        ]

    def _key(self, place: int) -> bytes:
        """Return the key before a bracket, or nothing."""
        found = _KEY.search(bytes(self._buffer[max(0, place - 300) : place]))
        return found[1] if found else b""

    def _may_cut(self, stack: list[int]) -> bool:
        """Tell whether the last array of a stack may be cut: it and those above it are named."""
        return all(
            self._buffer[at] != 91 or depth == 0 or self._key(at) in self._arrays
            for depth, at in enumerate(stack)
        )

    def _again(self, stack: list[int], marks: _Marks) -> bytes:
        """Return what opens the brackets of a stack again, with what is kept beside them."""
        parts = []
        for depth, at in enumerate(stack):
            key = self._key(at)
            if key:
                parts.append(b'"' + key + b'":')
            parts.append(bytes(self._buffer[at : at + 1]))
            if self._buffer[at] == 123 and depth + 1 < len(stack):
                parts.extend(self._beside(at, stack[depth + 1], depth + 1, marks))
        return b"".join(parts)

    def _beside(self, low: int, high: int, depth: int, marks: _Marks) -> Iterator[bytes]:
        """Yield the objects between two places that are kept, with their keys."""
        inside = (marks.at > low) & (marks.at < high)
        opened = marks.at[inside & marks.opens & (marks.depth == depth + 1)].tolist()
        closed = marks.at[inside & ~marks.opens & (marks.depth == depth)].tolist()
        for begin, end in zip(opened, closed, strict=False):
            key = self._key(begin)
            if key in self._kept and end - begin < KEPT_BYTES:
                yield b'"' + key + b'":' + bytes(self._buffer[begin : end + 1]) + b","
