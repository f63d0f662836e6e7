"""Rounds of a benchmark that goes on where it was: a line of JSON for each, in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

Round = TypeVar("Round", bound=msgspec.Struct)


def kept(path: Path | None, kind: type[Round]) -> list[Round]:
    """Return the rounds that a file has; a last line that was cut off is taken from it."""
    if path is None or not path.exists():
        return []
    found = path.read_bytes()
    whole = found[: found.rfind(b"\n") + 1]
    if len(whole) < len(found):
        os.truncate(path, len(whole))
    return [msgspec.json.decode(line, type=kind) for line in whole.splitlines()]


def keep(path: Path | None, done: msgspec.Struct) -> None:
    """Add a round to a file, if there is one."""
    if path is not None:
        with path.open("ab", buffering=0) as file:
            file.write(msgspec.json.encode(done) + b"\n")
