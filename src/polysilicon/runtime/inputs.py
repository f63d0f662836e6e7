"""Inputs of a run: JSON Lines, one object a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.errors import InputError

_LINE_BYTES = 64 * 2**20


def read_inputs(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the object of each line; empty lines are passed over; `-` is standard input.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object; names file and line.
    """
    try:
        stream = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read the inputs: {error.strerror}", where=str(path)) from error
    with stream:
        row = 0
        while line := stream.readline(_LINE_BYTES):
            row += 1
            if line.strip():
                yield _parse(line, f"{path}, line {row}")


def _parse(line: bytes, where: str) -> dict[str, Any]:
    mend = "write one JSON object a line"
    try:
        value = msgspec.json.decode(line)
        msgspec.msgpack.encode(value)  # as the journal keeps it
    except OverflowError as error:
        raise InputError("a number does not fit into 64 bits", where=where) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not JSON: {error}", where=where, mend=mend) from error
    if not isinstance(value, dict):
        raise InputError(f"a JSON {type(value).__name__}, not an object", where=where, mend=mend)
    return value
