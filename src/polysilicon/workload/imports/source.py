"""A file to import, decompressed as it is read, with limits: what it holds is hostile.

gzip, zstd, bzip2 and LZ4 are told by their first bytes, not by the file's name. Memory is a chunk
and a line, however large the file is. Decompressed size is limited in proportion to the file, so
that a small file cannot keep a machine busy for days.
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from polysilicon.errors import InputError

CHUNK_BYTES = 2**20
HEAD_BYTES = 2**16
LONGEST_LINE = 64 * 2**20
"""A longer line is not read into memory: no trace of a sound system has one."""

MOST_RATIO = 200
"""Decompressed over compressed bytes; traces of JSON reach 60."""

_AHEAD_BYTES = 2**16
"""Arrow reads so many compressed bytes at once."""

_STEP_BYTES = 32
"""Compressed bytes in front of a damage are decompressed in steps of so many."""

FREE_BYTES = 256 * 2**20
"""Decompressed bytes that any file may have."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
}


class Source:
    """One file to import; it can be read from the start any number of times.

    Attributes:
        name: of the file without its suffixes; of several files of an import, each has its own.
        prefix: of the ids of tasks that only this file tells apart; empty where it is the only one.
        damage: where its compressed data was found broken; empty where they were not.

    Args:
        path: a file, compressed or not.
        skip_bad: where compressed data are broken, what comes before is the content.

    Raises:
        InputError: it is missing, cannot be read, or is no plain file.
    """

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        self.path = path
        self._skip_bad = skip_bad
        self.damage = ""
        self._last = b""  # what comes right before the damage
        self.name = path.name.split(".")[0] or path.name
        self.prefix = ""
        try:
            mode = path.stat().st_mode
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                raise self._unreadable(error) from error
            raise InputError("no such file", where=str(path), mend="name a trace file") from error
        if stat.S_ISDIR(mode):
            mend = f"name the files in it, such as {path}/*"
            raise InputError("it is a folder", where=str(path), mend=mend)
        # A file is read several times, which a pipe cannot be; one that nobody writes to hangs.
        if not stat.S_ISREG(mode):
            mend = "write what it holds to a file first"
            raise InputError("it is a pipe, device or socket", where=str(path), mend=mend)

    @cached_property
    def compression(self) -> str:
        """`gzip`, `zstd`, `bz2`, `lz4` or an empty string."""
        try:
            with self.path.open("rb") as file:
                start = file.read(4)
        except OSError as error:
            raise self._unreadable(error) from error
        return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of the file as it lies on the disk."""
        return self.path.stat().st_size

    @cached_property
    def head(self) -> bytes:
        """The first bytes, decompressed; at most `HEAD_BYTES`."""
        found = bytearray()
        for chunk in self.chunks():
            found += chunk
            if len(found) >= HEAD_BYTES:
                break
        return bytes(found[:HEAD_BYTES])

    def chunks(self) -> Iterator[bytes]:
        """Yield the decompressed content in pieces of at most `CHUNK_BYTES`.

        Raises:
            InputError: it cannot be read or decompressed, or is larger than a trace can be.
        """
        if not self.compression:
            yield from self._plain()
            return
        limit = max(FREE_BYTES, self.size_bytes * MOST_RATIO)
        done = 0
        try:
            with pa.OSFile(str(self.path)) as file:
                stream = pa.CompressedInputStream(file, self.compression)
                try:
                    while chunk := stream.read(CHUNK_BYTES):
                        done += len(chunk)
                        if done > limit:
                            what = f"decompresses to more than {limit:,} bytes"
                            mend = "decompress it yourself if you trust it"
                            raise InputError(what, where=str(self.path), mend=mend)
                        yield chunk
                except (OSError, pa.ArrowException, EOFError) as error:
                    if not self.damage:
                        self._last = self._before_damage(done, file.tell(), error)
                    yield self._last
        except PermissionError as error:
            raise self._unreadable(error) from error

    def _plain(self) -> Iterator[bytes]:
        """Yield the content of a file that is not compressed."""
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise self._unreadable(error) from error

    def _before_damage(self, done: int, place: int, error: BaseException) -> bytes:
        """Return what can be decompressed beyond some bytes, and note the damage that follows.

        Args:
            done: bytes that were decompressed.
            place: how far the file was read.
            error: of the decompressor, which gave nothing of what it had read last.

        Raises:
            InputError: bad records are not to be skipped, or nothing comes before the damage.
        """
        found = bytearray()
        with self.path.open("rb") as file, suppress(OSError, pa.ArrowException, EOFError):
            drops = pa.PythonFile(_Drops(file, place - 2 * _AHEAD_BYTES), mode="r")
            stream = pa.CompressedInputStream(drops, self.compression)
            left = done
            while left and (chunk := stream.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
            while len(found) < CHUNK_BYTES and (byte := stream.read(1)):
                found += byte
        what = f"{self.compression} data is broken after {done + len(found):,} bytes"
        if not self._skip_bad or not done + len(found):
            mend = "import what comes before with --skip-bad" if done + len(found) else ""
            raise InputError(f"{what}: {error}", where=str(self.path), mend=mend) from error
        self.damage = what
        return bytes(found)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the offset of each line that is not blank, and the line without its end.

        Raises:
            InputError: as of `chunks`; a line is longer than `LONGEST_LINE`.
        """
        rest, offset = b"", 0
        for chunk in self.chunks():
            whole = rest + chunk if rest else chunk
            pieces = whole.split(b"\n")
            rest = pieces.pop()
            for piece in pieces:
                if piece and not piece.isspace():
                    yield offset, piece.rstrip(b"\r")
                offset += len(piece) + 1
            if len(rest) > LONGEST_LINE:
                what = f"a line of more than {LONGEST_LINE:,} bytes"
                raise InputError(what, where=f"{self.path}, byte {offset}")
        # A line that damage cuts may look whole: `12` of `123`.
        if rest and not rest.isspace() and not self.damage:
            yield offset, rest.rstrip(b"\r")

    def _unreadable(self, error: BaseException) -> InputError:
        reason = getattr(error, "strerror", None) or error
        return InputError(f"cannot be read: {reason}", where=str(self.path))


class _Drops(io.RawIOBase):
    """A file that gives a few bytes at once from some place on.

    A decompressor that fails gives nothing of what it was given last, so that is to be little.

    Args:
        file: compressed.
        place: in it.
    """

    def __init__(self, file: BinaryIO, place: int) -> None:
        super().__init__()
        self._file, self._place = file, place

    def readable(self) -> bool:
        """Return True: Arrow asks."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return some bytes; none only at the end."""
        return self._file.read(size if self._file.tell() < self._place else _STEP_BYTES)
