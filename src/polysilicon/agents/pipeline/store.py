"""Files between the stages: JSON lines and arrays, which appear only when they are complete."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import numpy as np

T = TypeVar("T")


def write_lines(path: Path, records: Iterable[Any]) -> int:
    """Write records as JSON lines, one at a time; return how many."""
    encode = msgspec.json.Encoder().encode
    count = 0

    def write(stream: IO[bytes]) -> None:
        nonlocal count
        for record in records:
            stream.write(encode(record) + b"\n")
            count += 1

    _atomically(path, write)
    return count


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield the records of a file that `write_lines` wrote, one at a time."""
    decode = msgspec.json.Decoder(kind).decode
    with path.open("rb") as stream:
        for line in stream:
            yield decode(line)


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """Write an array in NumPy's format."""
    _atomically(path, lambda stream: np.save(stream, array, allow_pickle=False))


def read_array(path: Path) -> np.ndarray[Any, Any]:
    """Return an array that `write_array` wrote, mapped from its file instead of read."""
    array: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Give the file its name when all of it is there, so that a step can be repeated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
