"""Where documents come from: the files of a folder, cut into shards, read one document at a time.

A shard is a file of part descriptions; a part is a range of bytes of one file. Nothing here holds
more than one document, so memory does not grow with the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import charset_normalizer
import msgspec

from polysilicon.agents.pipeline.store import write_lines
from polysilicon.errors import InputError

SHARD_BYTES = 8 * 2**20
DOCUMENT_BYTES = 2**20
"""A text file over this is read as several documents, cut at line ends."""

_SAMPLE_BYTES = 2**16
_TEXT = {".txt", ".md", ".text"}
_JSONL = {".jsonl", ".ndjson"}
_FIELDS = ("text", "content", "body")
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A range of bytes of a file.

    Attributes:
        path: the file.
        name: how documents of it are named.
        begin: first byte.
        end: byte after the last.
        line: number of the first line, from 1.
        whole: whether the range is all of the file.
    """

    path: str
    name: str
    begin: int
    end: int
    line: int = 1
    whole: bool = True


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it was read; `recoded` where its bytes were not UTF-8."""

    id: str
    title: str
    text: str
    recoded: bool


class Malformed(msgspec.Struct, frozen=True, kw_only=True):
    """A line that is no document: where it is, and why."""

    file: str
    line: int
    reason: str


def find_files(folder: str | None, files: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return path and name of each file to read, in order, and the names of files left out.

    Files are left out whose ending is not that of text or JSONL. Links are not followed.

    Raises:
        InputError: the folder or a file does not exist.
    """
    if folder is None:
        paths = [Path(file) for file in files]
        names = [str(path) for path in paths]
    else:
        root = Path(folder)
        if not root.is_dir():
            raise InputError("there is no such folder", where=folder)
        paths = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
        names = [path.relative_to(root).as_posix() for path in paths]
    found, left_out = [], []
    for path, name in zip(paths, names, strict=True):
        if not path.is_file():
            raise InputError("there is no such file", where=str(path))
        if path.suffix.lower() in _TEXT | _JSONL:
            found.append((str(path), name))
        else:
            left_out.append(name)
    return found, left_out


def cut(path: str, name: str) -> Iterator[Part]:
    """Cut a file at line ends into parts of one document (text) or one shard (JSONL) at most."""
    limit = SHARD_BYTES if is_jsonl(path) else DOCUMENT_BYTES
    size = Path(path).stat().st_size
    if size <= limit or _wide(path):
        yield Part(path=path, name=name, begin=0, end=size)
        return
    with Path(path).open("rb") as stream:
        begin, line = 0, 1
        while block := stream.read(limit):
            # A line may be longer than a part; then the part grows to its end.
            block += b"" if block.endswith(b"\n") else stream.readline()
            end = begin + len(block)
            yield Part(path=path, name=name, begin=begin, end=end, line=line, whole=False)
            begin, line = end, line + block.count(b"\n")


def shards(parts: Iterator[Part]) -> Iterator[list[Part]]:
    """Group parts into shards of about `SHARD_BYTES`."""
    group: list[Part] = []
    total_bytes = 0
    for part in parts:
        size_bytes = part.end - part.begin
        if group and total_bytes + size_bytes > SHARD_BYTES:
            yield group
            group, total_bytes = [], 0
        group.append(part)
        total_bytes += size_bytes
    if group:
        yield group


def plan(folder: str | None, files: list[str], target: Path) -> dict[str, int]:
    """Write the shards of a folder to `target`, a file each; return how many of what there are."""
    found, left_out = find_files(folder, files)
    parts = (part for path, name in found for part in cut(path, name))
    count = 0
    for count, shard in enumerate(shards(parts), 1):
        write_lines(target / f"{count - 1:05d}.jsonl", shard)
    return {"files": len(found), "files_left_out": len(left_out), "shards": count}


def read_part(part: Part) -> Iterator[Raw | Malformed]:
    """Yield the documents of a part, and the lines that are none."""
    with Path(part.path).open("rb") as stream:
        stream.seek(part.begin)
        if is_jsonl(part.path):
            yield from _records(stream, part)
            return
        data = stream.read(part.end - part.begin)
    if data.strip():
        text, recoded = decode(data)
        name = part.name if part.whole else f"{part.name}:{part.line}"
        yield Raw(id=name, title=Path(part.name).stem, text=text, recoded=recoded)


def decode(data: bytes) -> tuple[str, bool]:
    """Return bytes as text, and whether they were something else than UTF-8.

    Bytes that are no UTF-8 are read in the encoding that makes the likeliest text of them
    (charset-normalizer on a sample); what fits none is replaced.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding == "utf-16"
    try:
        return data.decode(), False
    except UnicodeDecodeError as error:
        # The sample is taken where the trouble begins: before it, all encodings agree.
        begin = max(0, error.start - _SAMPLE_BYTES // 2)
        best = charset_normalizer.from_bytes(data[begin : begin + _SAMPLE_BYTES]).best()
    encoding = best.encoding if best is not None else "latin-1"
    return data.decode(encoding, errors="replace"), True


def is_jsonl(path: str) -> bool:
    """Return whether a file holds one JSON object a line."""
    return Path(path).suffix.lower() in _JSONL


def _wide(path: str) -> bool:
    """Return whether a file is UTF-16, whose line ends are not where a byte 10 is."""
    with Path(path).open("rb") as stream:
        return stream.read(2) in {b"\xff\xfe", b"\xfe\xff"}


def _records(stream: BinaryIO, part: Part) -> Iterator[Raw | Malformed]:
    """Yield the records of a range of a JSONL file."""
    left_bytes, number = part.end - part.begin, part.line
    while left_bytes > 0 and (line := stream.readline(left_bytes)):
        left_bytes -= len(line)
        if line.strip():
            yield _record(line, part.name, number)
        number += 1


def _record(line: bytes, name: str, number: int) -> Raw | Malformed:
    text, recoded = decode(line)
    try:
        record = msgspec.json.decode(text.encode(errors="replace"))
    except msgspec.DecodeError as error:
        return Malformed(file=name, line=number, reason=f"no JSON: {error}")
    if not isinstance(record, dict):
        return Malformed(file=name, line=number, reason="no JSON object")
    body = next((record[f] for f in _FIELDS if isinstance(record.get(f), str)), None)
    if body is None:
        reason = f"none of the fields {', '.join(_FIELDS)} holds text"
        return Malformed(file=name, line=number, reason=reason)
    title = record.get("title")
    title = title if isinstance(title, str) else Path(name).stem
    return Raw(id=f"{name}:{number}", title=title, text=body, recoded=recoded)
