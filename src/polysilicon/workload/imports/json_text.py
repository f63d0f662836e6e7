"""JSON files as documents, whichever way they lie in the file, with what is broken counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

import msgspec

from polysilicon.workload.imports.findings import Findings
from polysilicon.workload.imports.pieces import PIECE_BYTES, BrokenJsonError, Piece, pieces
from polysilicon.workload.imports.source import CHUNK_BYTES, HEAD_BYTES, Source

LINE_BYTES = 16 * 2**20
"""A longer line is cut between elements instead of being decoded at once."""
_BLANK = ord(" ")
_DENSE = 12
"""Bytes for each object: with fewer, as where objects are empty, they take much more than a line.

OTLP and Langfuse have at least 18 in what a step needs.
"""


class Text:
    """A JSON document, or a part of one that is a document too, and where it lies.

    Attributes:
        data: the bytes, or a view of them where they lie among others.
        path: of its file.
        at: offset in the decompressed file.
    """

    __slots__ = ("at", "data", "path")

    def __init__(self, data: bytes | memoryview, path: str, at: int) -> None:
        self.data, self.path, self.at = data, path, at

    def is_list(self) -> bool:
        """Tell whether the document begins as a list."""
        begin = bytes(self.data[:64]).lstrip() or bytes(self.data).lstrip()
        return begin[:1] == b"["

    def where(self, place: int = 0) -> str:
        """Return file and offset of a place in the document."""
        return f"{self.path}, byte {self.at + place}"


def documents(
    source: Source, findings: Findings, arrays: frozenset[bytes], kept: frozenset[bytes]
) -> Iterator[Text]:
    """Yield the documents of a file: one a line, or in any other way; large ones in parts.

    Args:
        source: the file.
        findings: counts what is no JSON.
        arrays: keys of arrays between whose elements a document may be cut.
        kept: keys of objects that each part is to have again.

    Raises:
        InputError: the file cannot be read, or is broken, and bad records are not to be skipped.
    """
    chunks = _without_mark(source.chunks())
    path = str(source.path)
    if not _looks_like_lines(source.head):
        yield from _cut(chunks, path, 0, findings, (arrays, kept))
        return
    for text in _lines(chunks, source, findings, (arrays, kept)):
        if len(text.data) > PIECE_BYTES and _is_dense(text.data):
            yield from _cut(_slices(bytes(text.data)), path, text.at, findings, (arrays, kept))
        else:
            yield text


def _lines(
    chunks: Iterator[bytes],
    source: Source,
    findings: Findings,
    keys: tuple[frozenset[bytes], frozenset[bytes]],
) -> Iterator[Text]:
    """Yield the documents of a file that has one a line; long ones in parts."""
    path = str(source.path)
    rest, offset, sure = b"", 0, b"\n" in source.head.strip()
    for chunk in chunks:
        end = chunk.find(b"\n")
        if end < 0:
            rest += chunk
        else:
            line: bytes | memoryview = rest + chunk[:end]
            if not sure:
                # The head ended within the first line, which may be the first of one large object.
                sure = _decodes(line)
                if not sure:
                    begun = rest + chunk
                    yield from _cut(chain([begun], chunks), path, 0, findings, keys)
                    return
            view, begin = memoryview(chunk), 0
            while end >= 0:
                if len(line) and not (line[0] <= _BLANK and bytes(line).isspace()):
                    yield Text(line, path, offset)
                offset += len(line) + 1
                begin, end = end + 1, chunk.find(b"\n", end + 1)
                line = view[begin:end]
            rest = chunk[begin:]
        if len(rest) > LINE_BYTES:
            line_of = _Line(rest, chunks)
            yield from _cut(line_of.chunks(), path, offset, findings, keys)
            rest = line_of.rest()
            offset += line_of.bytes
    if rest.strip():
        yield Text(rest, path, offset)


def _is_dense(line: bytes | memoryview) -> bool:
    """Tell whether a line has so many objects that it is not to be decoded at once."""
    return bytes(line).count(b"{") * _DENSE > len(line)


def _slices(line: bytes) -> Iterator[bytes]:
    """Yield a line in pieces."""
    return (line[at : at + CHUNK_BYTES] for at in range(0, len(line), CHUNK_BYTES))


class _Line:
    """A long line, in pieces; what follows it is kept.

    Args:
        begun: its beginning.
        chunks: what comes after.
    """

    def __init__(self, begun: bytes, chunks: Iterator[bytes]) -> None:
        self._begun, self._chunks = begun, chunks
        self._rest: bytes | None = None
        self.bytes = 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the line."""
        for chunk in chain([self._begun], self._chunks):
            piece, ended, rest = chunk.partition(b"\n")
            self.bytes += len(piece) + len(ended)
            if ended:
                self._rest = rest
            yield piece
            if ended:
                return
        self._rest = b""

    def rest(self) -> bytes:
        """Return what follows the line in the chunk in which it ended, reading on to its end."""
        if self._rest is None:
            self._begun = b""
            for _ in self.chunks():
                pass
        return self._rest or b""


def _looks_like_lines(head: bytes) -> bool:
    """Tell whether the first line is a document by itself, as far as the head shows."""
    line, ended, more = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    if line[:1] != b"{":
        return False
    if not ended:
        return len(head) >= HEAD_BYTES or _decodes(line)
    # Where the first line is broken, the second tells.
    second, ended, _ = more.partition(b"\n")
    return _decodes(line) or (second[:1] == b"{" and bool(ended) and _decodes(second))


def _decodes(line: bytes | memoryview) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _cut(
    chunks: Iterator[bytes],
    path: str,
    offset: int,
    findings: Findings,
    keys: tuple[frozenset[bytes], frozenset[bytes]],
) -> Iterator[Text]:
    try:
        for piece in pieces(chunks, *keys):
            if piece.data.strip(b" \t\r\n,"):
                yield Text(piece.data, path, offset + piece.at)
    except BrokenJsonError as error:
        findings.bad(error.what, where=f"{path}, byte {offset + error.at}")


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks without the byte order mark that some write first, blank instead."""
    for number, chunk in enumerate(chunks):
        if number == 0 and chunk.startswith(b"\xef\xbb\xbf"):
            yield b"   " + chunk[3:]
        else:
            yield chunk


def broken(
    text: Text,
    error: Exception,
    findings: Findings,
    keys: tuple[frozenset[bytes], frozenset[bytes]],
) -> list[Piece]:
    """Count a document that is no JSON, and return its parts that are, if it ends early.

    Raises:
        InputError: bad records are not to be skipped.
    """
    words = str(error)
    found = re.search(r" \(byte (\d+)\)", words)
    early = "truncated" in words
    place = int(found[1]) if found else len(text.data) if early else 0
    what = "JSON ends early" if early else _without_place(error)
    findings.bad(what, where=text.where(place))
    whole: list[Piece] = []
    if early:
        with suppress(BrokenJsonError):
            for piece in pieces([bytes(text.data)], *keys):
                try:
                    plain(piece.data)
                except msgspec.DecodeError as fault:
                    if len(piece.data) < len(text.data):  # the whole is counted already
                        findings.bad(_without_place(fault), where=text.where(piece.at))
                else:
                    whole.append(piece)
    return whole


def _without_place(error: Exception) -> str:
    return re.sub(r" \(byte \d+\)", "", str(error))


def plain(data: bytes | memoryview) -> Any:
    """Decode JSON without types.

    Raises:
        msgspec.DecodeError: it is none, or is nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError("JSON is malformed: not UTF-8") from error
    except RecursionError as error:
        raise msgspec.DecodeError("JSON is nested too deeply") from error
